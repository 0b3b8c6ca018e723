"""Watches of one tenant in this daemon.

The log of events is the truth. The `hub` follows it, and hands each event to the feeds of the ranges that hold its key,
which the `index` finds. A `feed` is what has happened in one range since its slowest watcher was served. Whoever starts
in the past, or lags too far behind, reads the log by `replay`, all such watchers together.

    index.py        which ranges hold a key
    feed.py         a watcher, and what has happened in its range
    delivery.py     what a watcher is told in one go
    fanout.py       events into feeds, and watchers woken, in slices
    log.py          the log in pages
    replay.py       one pass over the log for all watchers that are behind
    hub.py          watchers begin and end, and are served; the log is followed
    background.py   what runs for the hub, and survives
"""
