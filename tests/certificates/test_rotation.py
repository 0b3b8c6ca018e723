"""Certificate files that change while they are served with: taken whole, or not at all."""

import asyncio
import contextlib
import datetime
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from fetch.observation.instruments import Instruments
from fetch.tls import certificates
from fetch.tls.certificates import Certificate
from fetch.tls.material import Files, Material, MaterialError, read
from fetch.tls.rotation import Rotation, measure
from fetch.tls.trust import NOT_TRUSTED, REVOKED
from tests.certificates.lists import DAY, list_of

AUTHORITY = certificates.authority("tests")
CLIENT = certificates.issue(AUTHORITY, "alpha")
OFTEN = 0.001


def server(signer: Certificate = AUTHORITY, valid: datetime.timedelta = 60 * DAY) -> Certificate:
    return certificates.issue(signer, "localhost", server=True, names=certificates.loopback_names(), valid=valid)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    server().write(tmp_path, "server")
    AUTHORITY.write(tmp_path, "ca")
    (tmp_path / "revoked.crl").write_bytes(list_of(AUTHORITY))
    return Files(*(tmp_path / name for name in ("server.crt", "server.key", "ca.crt", "revoked.crl")))


class Port:
    """Takes what a port would, and tells what happens."""

    def __init__(self) -> None:
        self.served: list[Material] = []
        self.taken = asyncio.Event()

    def prepare(self, material: Material) -> Callable[[], None]:
        def take() -> None:
            self.served.append(material)
            self.taken.set()

        return take

    async def next(self) -> Material:
        self.taken.clear()
        await self.taken.wait()
        return self.served[-1]


@contextlib.asynccontextmanager
async def serving(rotation: Rotation) -> AsyncIterator[Port]:
    port = Port()
    rotation.serve_with(port.prepare)
    async with rotation.running():
        yield port


class Lines(logging.Handler):
    """What is logged, as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.put_nowait(record.getMessage())

    async def next(self, beginning: str) -> str:
        """The next one that begins so."""
        while not (line := await self.lines.get()).startswith(beginning):
            pass
        return line


@pytest.fixture
def lines() -> Iterator[Lines]:
    logger = logging.getLogger("fetch.tls.rotation")
    before, handler = logger.level, Lines()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


async def test_a_certificate_and_its_key_are_taken_when_they_change(files: Files) -> None:
    async with serving(Rotation(files, Instruments(), OFTEN)) as port:
        renewed = server()
        renewed.write(files.certificate.parent, "server")
        while (await port.next()).certificate != renewed.certificate_pem:
            pass
        assert port.served[-1].key == renewed.key_pem


async def test_a_swap_of_kubernetes_links_is_a_change(tmp_path: Path) -> None:
    for name in ("..1", "..2"):
        (tmp_path / name).mkdir()
        server().write(tmp_path / name, "tls")
        AUTHORITY.write(tmp_path / name, "ca")
    (tmp_path / "..data").symlink_to("..1")
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (tmp_path / name).symlink_to(Path("..data") / name)
    links = Files(tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt")
    async with serving(Rotation(links, Instruments(), OFTEN)) as port:
        (tmp_path / "..data_tmp").symlink_to("..2")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        assert (await port.next()).certificate == (tmp_path / "..2" / "tls.crt").read_bytes()


async def test_a_certificate_waits_for_its_key(files: Files, lines: Lines) -> None:
    async with serving(Rotation(files, Instruments(), OFTEN)) as port:
        renewed = server()
        files.certificate.write_bytes(renewed.certificate_pem)
        assert "is not the key of the certificate" in await lines.next("changed certificates are not taken")
        assert len(port.served) == 1
        files.key.write_bytes(renewed.key_pem)
        assert (await port.next()).certificate == renewed.certificate_pem


async def test_what_stays_wrong_is_told_once_and_counted(files: Files, lines: Lines) -> None:
    instruments = Instruments()
    rotation = Rotation(files, instruments, OFTEN)
    async with serving(rotation) as port:
        files.key.write_bytes(b"none")
        await lines.next("changed certificates are not taken")
        files.key.write_bytes(b"nor this")
        rotation.look_soon()
        renewed = server()
        renewed.write(files.certificate.parent, "server")
        while (await port.next()).certificate != renewed.certificate_pem:
            pass
    told = [lines.lines.get_nowait() for _ in range(lines.lines.qsize())]
    assert [line for line in told if "is not a private key" in line] == []
    reloads = instruments.counter("fetch.certificates.reloads", "", ("result",)).cells
    assert reloads[("refused",)] >= 1
    assert reloads[("taken",)] == 1


async def test_what_a_transport_cannot_serve_with_is_not_taken(files: Files, lines: Lines) -> None:
    rotation = Rotation(files, Instruments(), OFTEN)
    served = read(files)
    async with serving(rotation):

        def refuse(material: Material) -> Callable[[], None]:
            if material.certificate != served.certificate:
                raise ValueError("the transport knows no such key")
            return lambda: None

        rotation.serve_with(refuse)
        server().write(files.certificate.parent, "server")
        while "the transport knows no such key" not in await lines.next("changed certificates are not taken"):
            pass
        assert rotation.material.certificate == served.certificate


async def test_when_asked_it_looks_at_once(files: Files, lines: Lines) -> None:
    hour = 3600.0
    rotation = Rotation(files, Instruments(), hour)
    async with serving(rotation) as port:
        renewed = server()
        renewed.write(files.certificate.parent, "server")
        rotation.look_soon()
        assert (await port.next()).certificate == renewed.certificate_pem
        rotation.look_soon()
        await lines.next("certificates are as they were")


async def test_an_authority_that_is_added_and_taken_out(files: Files) -> None:
    rotation = Rotation(files, Instruments(), OFTEN)
    changes: asyncio.Queue[str] = asyncio.Queue()
    rotation.on_change(lambda: changes.put_nowait(rotation.refusal(CLIENT.certificate_pem)))
    another = certificates.authority("another")
    assert files.revocations is not None
    files.revocations.write_bytes(list_of(AUTHORITY) + list_of(another))
    files.authorities.write_bytes(AUTHORITY.certificate_pem + another.certificate_pem)
    async with serving(rotation):
        assert await changes.get() == ""
        files.revocations.write_bytes(list_of(another))
        files.authorities.write_bytes(another.certificate_pem)
        assert await changes.get() == NOT_TRUSTED


async def test_whom_a_new_list_names_is_refused(files: Files) -> None:
    rotation = Rotation(files, Instruments(), OFTEN)
    changes: asyncio.Queue[str] = asyncio.Queue()
    rotation.on_change(lambda: changes.put_nowait(rotation.refusal(CLIENT.certificate_pem)))
    async with serving(rotation):
        assert files.revocations is not None
        files.revocations.write_bytes(list_of(AUTHORITY, [CLIENT]))
        assert await changes.get() == REVOKED


def endings(instruments: Instruments) -> dict[tuple[str, str, str], float]:
    (metric,) = [it for it in instruments.metrics() if it.name == "fetch.certificate.expiry_timestamp"]
    return {
        (Path(str(point.attributes["file"])).name, str(point.attributes["kind"]), str(point.attributes["subject"])): (
            point.value  # type: ignore[union-attr]
        )
        for point in metric.data.data_points
        if point.attributes is not None
    }


async def test_what_ends_is_measured_by_file(files: Files) -> None:
    instruments = Instruments()
    rotation = Rotation(files, instruments)
    measure(instruments, rotation, Rotation(None, instruments))
    certificate = next(it for it in rotation.material.endings if it.kind == "certificate")
    measured = endings(instruments)
    assert set(measured) == {
        ("server.crt", "certificate", "CN=localhost"),
        ("ca.crt", "authority", "CN=tests"),
        ("revoked.crl", "crl", "CN=tests"),
    }
    assert measured["server.crt", "certificate", "CN=localhost"] == certificate.at.timestamp()


async def test_of_an_authority_that_was_renewed_the_later_end_counts(files: Files) -> None:
    renewed = certificates.authority("tests")
    files.authorities.write_bytes(renewed.certificate_pem + AUTHORITY.certificate_pem)
    instruments = Instruments()
    measure(instruments, Rotation(files, instruments))
    later = max(it.certificate.not_valid_after_utc for it in (renewed, AUTHORITY))
    assert endings(instruments)["ca.crt", "authority", "CN=tests"] == later.timestamp()


async def test_what_ends_soon_is_told_at_start(files: Files, lines: Lines) -> None:
    server(valid=20 * DAY).write(files.certificate.parent, "server")
    async with serving(Rotation(files, Instruments())):
        assert await lines.next("a certificate") == "a certificate or a list of revoked ones is about to end"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda files: server(valid=-DAY).write(files.certificate.parent, "server"), "has expired"),
        (lambda files: files.certificate.unlink(), "cannot read"),
        (lambda files: files.certificate.write_bytes(files.certificate.read_bytes()[:200]), "not a certificate in PEM"),
        (lambda files: files.key.write_bytes(b""), "not a private key"),
        (lambda files: files.key.write_bytes(CLIENT.key_pem), "is not the key of the certificate"),
        (lambda files: files.authorities.write_bytes(b""), "not a certificate in PEM"),
        (lambda files: files.revocations.write_bytes(b""), "is not a revocation list"),
    ],
    ids=["expired", "missing", "half", "no key", "another key", "no authority", "no list"],
)
def test_files_that_cannot_be_served_with_are_refused(files: Files, spoil: Callable[[Files], None], why: str) -> None:
    spoil(files)
    with pytest.raises(MaterialError, match=why):
        Rotation(files, Instruments())


def test_a_key_that_cannot_be_read_is_not_told(files: Files) -> None:
    files.key.write_bytes(b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    with pytest.raises(MaterialError) as refused:
        read(files)
    assert "c2VjcmV0" not in str(refused.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_refused(files: Files) -> None:
    files.key.chmod(0)
    with pytest.raises(MaterialError, match="cannot read"):
        read(files)
