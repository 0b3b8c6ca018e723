"""The storage engine: what etcd does, on an ordered transactional store."""
