"""A tenant's certificate never passes for a daemon's, whatever files are swapped."""

import asyncio
from pathlib import Path

import pytest

from fetch.config import Settings
from fetch.observation.instruments import Instruments
from fetch.tls import certificates
from fetch.tls.apart import keep_apart
from fetch.tls.certificates import Certificate
from fetch.tls.material import files_of, peer_files_of
from fetch.tls.rotation import Rotation
from tests.certificates.test_rotation import Lines, lines

__all__ = ["lines"]  # a fixture

OFTEN = 0.001


def written(directory: Path, authority: Certificate) -> Path:
    directory.mkdir(exist_ok=True)
    names = certificates.loopback_names()
    certificates.issue(authority, "localhost", server=True, names=names).write(directory, "server")
    authority.write(directory, "ca")
    return directory


@pytest.mark.parametrize("changed", ["clients", "peers"])
async def test_an_authority_of_the_others_is_not_taken(tmp_path: Path, lines: Lines, changed: str) -> None:
    authorities = {name: certificates.authority(name) for name in ("clients", "peers")}
    clients, peers = (written(tmp_path / name, authority) for name, authority in authorities.items())
    settings = Settings(
        fdb_cluster_file="fdb.cluster",
        listen_peer_urls=("https://127.0.0.1:2380",),
        cert_file=f"{clients}/server.crt",
        key_file=f"{clients}/server.key",
        trusted_ca_file=f"{clients}/ca.crt",
        peer_cert_file=f"{peers}/server.crt",
        peer_key_file=f"{peers}/server.key",
        peer_trusted_ca_file=f"{peers}/ca.crt",
    )
    both = {
        "clients": Rotation(files_of(settings), Instruments(), OFTEN),
        "peers": Rotation(peer_files_of(settings), Instruments(), OFTEN),
    }
    keep_apart(settings, both["clients"], both["peers"])
    async with both[changed].running(), asyncio.timeout(60):
        other = authorities["peers" if changed == "clients" else "clients"]
        before = both[changed].material
        (tmp_path / changed / "ca.crt").write_bytes(before.authorities + other.certificate_pem)
        assert "shares an authority" in await lines.next("changed certificates are not taken")
        assert both[changed].material is before
