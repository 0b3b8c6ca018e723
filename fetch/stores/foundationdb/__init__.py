"""The store on a FoundationDB cluster, which any number of daemons share."""
