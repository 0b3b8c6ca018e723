"""What the operating system tells of the process, as metrics."""

import os
import resource
from collections.abc import Callable, Iterable
from pathlib import Path

from fetch.observation.instruments import Instruments, Labels


def observe_process(instruments: Instruments) -> None:
    """The process as Prometheus' client libraries show it, read from /proc; nothing where there is none."""
    statistics, descriptors = Path("/proc/self/stat"), Path("/proc/self/fd")
    if not statistics.exists():
        return
    page, ticks = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")

    def field(number: int) -> float:
        """A field of /proc/self/stat by its number in proc(5); the name in field 2 may hold blanks."""
        return float(statistics.read_text().rpartition(")")[2].split()[number - 3])

    def started() -> float:
        booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
        return float(booted.split()[1]) + field(22) / ticks

    for name, description, read, monotonic in (
        ("process_resident_memory_bytes", "Resident memory.", lambda: field(24) * page, False),
        ("process_virtual_memory_bytes", "Virtual memory.", lambda: field(23), False),
        ("process_cpu_seconds_total", "User and system CPU time.", lambda: (field(14) + field(15)) / ticks, True),
        ("process_start_time_seconds", "When it started, since the Unix epoch.", started, False),
        ("process_open_fds", "Open file descriptors.", lambda: len(list(descriptors.iterdir())), False),
        ("process_max_fds", "How many there may be.", lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0], False),
        ("os_fd_used", "The same as process_open_fds, etcd's name.", lambda: len(list(descriptors.iterdir())), False),
        ("os_fd_limit", "The same as process_max_fds.", lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0], False),
    ):
        instruments.observe(name, description, _once(read), monotonic=monotonic)


def _once(read: Callable[[], float]) -> Callable[[], Iterable[tuple[Labels, float]]]:
    return lambda: [((), read())]
