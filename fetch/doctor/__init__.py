"""What may be wrong with a daemon before it is: certificates, clocks, store and network, looked at and not touched."""
