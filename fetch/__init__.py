"""fetch: an etcd v3 endpoint for many Kubernetes control planes."""

__version__ = "0.1.0"
