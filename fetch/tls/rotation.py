"""Certificates that rotate: what the server's TLS is done with is taken anew when its files change, while it serves.

Files are looked at every second, by what `stat` tells of what they lead to, so a swap of symbolic links as Kubernetes'
mounted secrets have it is a change as well; and at once on SIGHUP. A change is taken when two looks have found the
same, as files are replaced one after the other. What cannot be used is told once, and tried again; until then
everything goes on with what there was. Connections that there are go on: only those lose their rights whose certificate
would not be taken any more.
"""

import asyncio
import contextlib
import dataclasses
import datetime
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path

from fetch.observation.instruments import Instruments, Labels
from fetch.tls.material import Ending, Files, Material, MaterialError, read
from fetch.tls.trust import Trust

_LOOK_SECONDS = 1.0
_AGAIN_SECONDS = 30.0
"""When what was refused is tried again though no file has changed: its disk may have failed, or a clock."""
_DAY_SECONDS = 86_400.0
_SOON = datetime.timedelta(days=30)

logger = logging.getLogger(__name__)

Signature = tuple[tuple[int, ...], ...]
Take = Callable[[], None]
Prepare = Callable[[Material], Take]
"""Makes what is needed to serve with new material, in a thread, and returns what takes it, on the loop.

It raises ValueError for material that cannot be served with."""


class Rotation:
    """The material that is served with, and whoever has to hear that it is another."""

    def __init__(self, files: Files | None, instruments: Instruments, look_seconds: float = _LOOK_SECONDS) -> None:
        """Reads the files. `None` where nothing is served by TLS: then it does nothing.

        :raises MaterialError: they cannot be used
        """
        self._files = files
        self._look_seconds = look_seconds
        self._served = self._seen = () if files is None else signature_of(files)
        self._material = None if files is None else read(files)
        self._refused = ""
        self._prepare: list[Prepare] = []
        self._changed: list[Callable[[], None]] = []
        self._asked = asyncio.Event()
        self._reloads = instruments.counter(
            "fetch.certificates.reloads", "Changed certificate files, taken or refused.", ("result",)
        )

    @property
    def serves(self) -> bool:
        """Whether there is anything that is served by TLS."""
        return self._material is not None

    @property
    def material(self) -> Material:
        """What is served with now."""
        if self._material is None:
            raise MaterialError("nothing is served by TLS")
        return self._material

    def serve_with(self, prepare: Prepare) -> None:
        """Serves a port with what there is, and with all that comes.

        :raises ValueError: this cannot be served with
        """
        prepare(self.material)()
        self._prepare.append(prepare)

    def on_change(self, changed: Callable[[], None]) -> None:
        """Calls back when `refusal` may say something else of a client than before."""
        self._changed.append(changed)

    def refusal(self, certificates: bytes) -> str:
        """Why a client that TLS has let in is not to be let in any more; empty if it is. See `Trust.refusal`."""
        return "" if self._material is None else self._material.trust.refusal(certificates)

    def look_soon(self) -> None:
        """Takes the files anew at once."""
        self._asked.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Looks at the files while the context is open."""
        looking = asyncio.create_task(self._look(), name="certificates")
        try:
            yield
        finally:
            looking.cancel()

    async def _look(self) -> None:
        warned = tried = -_DAY_SECONDS
        while True:
            if self._files is None:
                await self._asked.wait()
                self._asked.clear()
                continue
            now = time.monotonic()
            if now - warned >= _DAY_SECONDS:
                warned = now
                self._warn()
            asked = await self._wait()
            try:
                seen = await asyncio.to_thread(signature_of, self._files)
                before, self._seen = self._seen, seen
                again = bool(self._refused) and time.monotonic() - tried >= _AGAIN_SECONDS
                if asked or again or (seen == before != self._served):
                    tried = time.monotonic()
                    await self._take(self._files, seen, asked=asked)
            except Exception:  # whatever it is, what there was is served with
                logger.exception("certificates cannot be looked at")

    async def _wait(self) -> bool:
        """Until it is time to look; whether somebody asked."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), self._look_seconds)
        asked = self._asked.is_set()
        self._asked.clear()
        return asked

    async def _take(self, files: Files, seen: Signature, *, asked: bool) -> None:
        before = self.material
        try:
            material = await asyncio.to_thread(read, files)
            material = dataclasses.replace(material, trust=_following(before, material))
            takes = [await asyncio.to_thread(prepare, material) for prepare in self._prepare]
        except (MaterialError, ValueError) as error:
            self._refuse(str(error), seen)
            return
        self._served, self._refused = seen, ""
        if _says_the_same(before, material):
            if asked:
                logger.info("certificates are as they were")
            return
        for take in takes:
            take()
        self._material = material
        self._reloads.add(("taken",))
        logger.info("certificates taken anew", extra={"fields": _told(before, material)})
        self._warn()
        for changed in self._changed:
            changed()

    def _refuse(self, error: str, seen: Signature) -> None:
        self._served = seen  # looked at: again when it changes, or after a while
        if error != self._refused:
            self._reloads.add(("refused",))
            logger.error("changed certificates are not taken, those before go on: %s", error)
        self._refused = error

    def _warn(self) -> None:
        now = datetime.datetime.now(datetime.UTC)
        for ending in self.material.endings:
            if ending.at - now < _SOON:
                what = "has ended" if ending.at <= now else "is about to end"
                fields = {"kind": ending.kind, "file": ending.file, "subject": ending.subject, "at": ending.at}
                logger.warning("a certificate or a list of revoked ones %s", what, extra={"fields": fields})

    def endings(self) -> Sequence[Ending]:
        """When what is served with ends."""
        return () if self._material is None else self._material.endings


def measure(instruments: Instruments, *rotations: Rotation) -> None:
    """Exports when what these serve with ends."""

    def read_endings() -> Iterable[tuple[Labels, float]]:
        endings = (ending for rotation in rotations for ending in rotation.endings())
        return [((str(it.file), it.kind, it.subject), it.at.timestamp()) for it in endings]

    instruments.observe(
        "fetch.certificate.expiry_timestamp",
        "When a certificate, an authority or a revocation list ends, since the epoch.",
        read_endings,
        ("file", "kind", "subject"),
        "s",
    )


@contextlib.asynccontextmanager
async def rotating(*rotations: Rotation) -> AsyncIterator[None]:
    """Looks at all files while the context is open, and on SIGHUP."""

    def look_soon() -> None:
        for rotation in rotations:
            rotation.look_soon()

    async with contextlib.AsyncExitStack() as stack:
        for rotation in rotations:
            await stack.enter_async_context(rotation.running())
        with contextlib.suppress(RuntimeError, ValueError):  # not on the main thread, where there are no signals
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, look_soon)
        yield


def signature_of(files: Files) -> Signature:
    """What tells one content of the files from another, or that one cannot be read."""
    return tuple(map(_signature, files))


def _signature(file: Path) -> tuple[int, ...]:
    try:
        stat = file.stat()
    except OSError as error:
        return (error.errno or 0,)
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _following(before: Material, after: Material) -> Trust:
    """The trust that comes after another: it is less if an authority is missing, now or earlier."""
    less = before.trust.is_less or any(it not in after.trust.authorities for it in before.trust.authorities)
    return dataclasses.replace(after.trust, is_less=less)


def _says_the_same(before: Material, after: Material) -> bool:
    return (before.certificate, before.key, before.authorities, before.trust.revocations) == (
        after.certificate,
        after.key,
        after.authorities,
        after.trust.revocations,
    )


def _told(before: Material, after: Material) -> dict[str, object]:
    """What of it has changed, without a secret."""
    return {
        "certificate": "new" if before.certificate != after.certificate else "same",
        "until": next(ending.at for ending in after.endings if ending.kind == "certificate"),
        "authorities": len(after.trust.authorities),
        "revoked": sum(map(len, after.trust.revocations.revoked.values())),
    }
