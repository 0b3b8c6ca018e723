"""etcd's messages, compiled from `protos/` when fetch is installed."""
