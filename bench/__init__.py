"""The benchmark: fetch on both transports beside etcd and kine, on one machine, in one run. `python -m bench -h`."""
