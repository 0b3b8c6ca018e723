"""Clocks: certificates are held against the wall clock. Leases are not: they have a time of their own."""

import ctypes
import struct
import time
from collections.abc import Iterator

from fetch.doctor.finding import NOTE, OK, WRONG, Finding

_ABOUT = "clocks"
_RELEASED = 1_700_000_000.0
"""Before which no fetch was there: a machine without a battery begins in 1970."""
_UNSYNCHRONIZED = 0x40  # STA_UNSYNC of adjtimex(2)
_TIMEX = struct.Struct("@I5q")  # modes, offset, freq, maxerror, esterror, status; more behind it
_TIMEX_BYTES = 512


def look() -> Iterator[Finding]:
    """Looks at the wall clock, and whether something keeps it right."""
    if time.time() < _RELEASED:
        yield Finding(_ABOUT, WRONG, f"it is {time.ctime()} here", "set the clock: certificates do not hold yet")
        return
    match is_synchronized():
        case True:
            yield Finding(_ABOUT, OK, "the wall clock is kept right")
        case False:
            yield Finding(
                _ABOUT, NOTE, "nothing keeps the wall clock right", "run chrony or systemd-timesyncd, for certificates"
            )
        case None:
            yield Finding(_ABOUT, NOTE, "whether the wall clock is kept right cannot be told here")


def is_synchronized() -> bool | None:
    """Whether the kernel holds the wall clock to be right; None where it cannot be asked."""
    state = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes 0: nothing is changed
    try:
        if ctypes.CDLL(None, use_errno=True).adjtimex(state) < 0:
            return None
    except (OSError, AttributeError):
        return None
    *_, status = _TIMEX.unpack_from(state)
    return not status & _UNSYNCHRONIZED
