"""The etcd services: wire format to operations and back, no storage here."""
