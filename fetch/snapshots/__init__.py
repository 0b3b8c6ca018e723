"""etcd's snapshot files, read and written."""
