"""fetch: an etcd v3 endpoint for many Kubernetes control planes."""
