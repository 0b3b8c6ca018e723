"""The store in a directory of one machine, an LMDB database that the workers of one daemon share."""
