"""The storage engine in memory: etcd's semantics with no thought for speed, to be read as the specification.

    keyspace.py       keys with their history, revisions, reads at a revision, compaction
    transactions.py   compares, and what follows from them
    watches.py        what watches are told
    engine.py         the engine: the protocol's operations in terms of these, and leases

Nothing is awaited while an operation is carried out, so operations take place one after the other. Nothing outlives the
process, and nothing is bounded but by the quota. Tests of what stands on an engine run on it.
"""
