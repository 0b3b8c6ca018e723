"""Worker processes: several daemons on one machine that share its listeners and its store.

The kernel spreads connections over the workers (SO_REUSEPORT). They know of each other what daemons on one FoundationDB
do: through the store. One that ends takes the others with it, so that whoever supervises the daemon sees it; and a
worker stops when its standard input ends, which it does when the process that started it is gone, however it went.
"""

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from fetch.config import Settings
from fetch.process.manager import relayed

_NUMBER = "FETCH_WORKER"
_FAILED = 1


def worker_number(environment: Mapping[str, str]) -> int | None:
    """Which worker this process is; None in the process that the operator started."""
    number = environment.get(_NUMBER)
    return None if number is None else int(number)


def settings_of(settings: Settings, worker: int) -> Settings:
    """A worker's settings: each has listeners of its own for metrics and for peers, on the ports behind the first's."""

    def own(urls: Sequence[str]) -> tuple[str, ...]:
        return tuple(_shifted(url, worker) for url in urls)

    return dataclasses.replace(
        settings,
        listen_metrics_urls=own(settings.listen_metrics_urls),
        listen_peer_urls=own(settings.listen_peer_urls),
        initial_advertise_peer_urls=own(settings.initial_advertise_peer_urls),
    )


def stop_with_supervisor(stop: asyncio.Event) -> None:
    """Sets `stop` in a worker when the process that started it is gone."""

    def ended() -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop.set()

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended)


async def supervise(settings: Settings, arguments: Sequence[str]) -> int:
    """Runs the workers until one ends or a signal comes; the exit code of the first that failed, else 0.

    `arguments` are those of the command line, which the workers are given too.
    """
    async with relayed(os.environ, settings.workers) as environment:
        return await _supervise(settings, arguments, environment)


async def _supervise(settings: Settings, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "fetch",
            *arguments,
            env={**environment, _NUMBER: str(worker)},
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        for worker in range(settings.workers)
    ]
    loop.add_signal_handler(signal.SIGHUP, _pass_on, workers, signal.SIGHUP)
    ended = [asyncio.create_task(worker.wait()) for worker in workers]
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([*ended, stopping], return_when=asyncio.FIRST_COMPLETED)
    failed = [] if stop.is_set() else [worker.result() for worker in ended if worker.done()]
    stopping.cancel()
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            worker.terminate()
    codes = await asyncio.gather(*ended)
    if failed:  # how the others ended says nothing: they were told to, some before they could hear it
        return max(map(abs, failed)) or _FAILED
    return max((abs(code) for code in codes if code != -signal.SIGTERM), default=0)


def _pass_on(workers: Sequence[asyncio.subprocess.Process], number: signal.Signals) -> None:
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            worker.send_signal(number)


def _shifted(url: str, by: int) -> str:
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{(parts.port or 0) + by}"
