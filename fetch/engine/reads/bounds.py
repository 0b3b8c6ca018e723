"""What bounds a read: how much is looked at, kept or held on to at once."""

LARGE_BYTES = 32 << 20
"""Answers beyond are made one after the other, of one tenant."""

PAGE = 1000
PAGE_BYTES = 1 << 20
BRIEF = 100
"""The rows that a read may look at without taking turns: 0.1 ms."""

FEWEST = 16
"""The least rows of the history that are read at once: about what a seek costs."""

MOST_PIECES = 20_000
SORTED_BYTES = 1 << 20
COUNTED_AT_ONCE = 5000
EVENTS_AT_ONCE = 500
MOST_EVENTS_COUNTED = 2000
KEYS_FOR_AN_EVENT = 16
MOST_COUNTS = 1024
MOST_COUNTS_BEGUN = 16
SNAPSHOT_SECONDS = 1.0
"""How long one snapshot is read: LMDB uses none of the pages again that a snapshot sees, FoundationDB ends it."""

TRIES = 3
