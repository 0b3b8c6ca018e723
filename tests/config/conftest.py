"""Certificates for settings that need them."""

from pathlib import Path

import pytest

from fetch.tls import certificates


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of development certificates, not to be changed."""
    directory = tmp_path_factory.mktemp("certs")
    certificates.create(directory, ["alpha"])
    return directory


@pytest.fixture
def tls(certs: Path) -> dict[str, str]:
    """The settings of an https:// listener."""
    return {
        "cert_file": str(certs / "server.crt"),
        "key_file": str(certs / "server.key"),
        "trusted_ca_file": str(certs / "ca.crt"),
    }
