"""What can be seen of a daemon from outside: metrics, traces and logs."""
