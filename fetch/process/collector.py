"""The interpreter's garbage collector, for a process that serves."""

import gc

_YOUNG_OBJECTS = 20_000


def relax_collector() -> None:
    """Has the cyclic garbage collector look less often, and never again at what starting has made.

    Requests leave hardly any cycles behind, their objects go by reference count. With the collector's defaults a get
    costs 22 µs of Python where it costs 13 so, a create 44 and 38.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 10, 10)
