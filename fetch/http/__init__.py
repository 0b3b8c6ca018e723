"""What an etcd answers over HTTP."""
