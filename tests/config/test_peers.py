"""Nobody but a daemon is taken for one, whatever the settings of peers are."""

from pathlib import Path

import pytest

from fetch import config
from fetch.config import Settings, SettingsError
from fetch.process.workers import settings_of
from fetch.tls import certificates
from fetch.tls.certificates import Certificate


@pytest.fixture(scope="module")
def clients() -> Certificate:
    return certificates.authority("clients")


@pytest.fixture
def flags(tmp_path: Path, clients: Certificate) -> dict[str, str]:
    """The settings of a daemon with peers, whose authority is another than its clients'."""
    peers = certificates.authority("peers")
    clients.write(tmp_path, "ca")
    peers.write(tmp_path, "peer-ca")
    names = certificates.loopback_names()
    certificates.issue(clients, "server", server=True, names=names).write(tmp_path, "server")
    certificates.issue(peers, "daemon", peer=True, names=names).write(tmp_path, "peer")
    return {
        "fdb_cluster_file": "fdb.cluster",
        "cert_file": f"{tmp_path}/server.crt",
        "key_file": f"{tmp_path}/server.key",
        "trusted_ca_file": f"{tmp_path}/ca.crt",
        "listen_peer_urls": "https://127.0.0.1:2380",
        "peer_cert_file": f"{tmp_path}/peer.crt",
        "peer_key_file": f"{tmp_path}/peer.key",
        "peer_trusted_ca_file": f"{tmp_path}/peer-ca.crt",
    }


def load(flags: dict[str, str]) -> Settings:
    return config.load(flags, {}, None)


def refusal(flags: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as refused:
        load(flags)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_an_authority_of_their_own_is_enough(flags: dict[str, str]) -> None:
    settings = load(flags)
    assert settings.has_peers
    assert settings.initial_advertise_peer_urls == ("https://127.0.0.1:2380",)


def test_daemons_are_not_served_without_tls(flags: dict[str, str]) -> None:
    assert refusal(flags | {"listen_peer_urls": "http://127.0.0.1:2380"}).startswith("--listen-peer-urls: ")


@pytest.mark.parametrize("name", ["peer_cert_file", "peer_key_file", "peer_trusted_ca_file"])
def test_each_file_is_needed(flags: dict[str, str], name: str) -> None:
    del flags[name]
    assert f"--listen-peer-urls needs --{name.replace('_', '-')}" in refusal(flags)


def test_an_address_that_nobody_can_connect_to_is_not_told_to_daemons(flags: dict[str, str]) -> None:
    assert "--initial-advertise-peer-urls is required" in refusal(flags | {"listen_peer_urls": "https://0.0.0.0:2380"})


def test_the_clients_authority_is_refused_as_the_daemons(flags: dict[str, str]) -> None:
    shared = flags | {"peer_trusted_ca_file": flags["trusted_ca_file"]}
    assert "shares an authority" in refusal(shared)
    assert load(shared | {"peer_cert_allowed_cn": "daemon"}).has_peers


@pytest.mark.parametrize(
    "changed", [{"principal": "san-uri"}, {"peer_cert_allowed_hostname": "fetch.example"}, {"tenants": "alpha,daemon"}]
)
def test_a_name_that_a_tenant_may_have_is_not_enough(flags: dict[str, str], changed: dict[str, str]) -> None:
    shared = flags | {"peer_trusted_ca_file": flags["trusted_ca_file"], "peer_cert_allowed_cn": "daemon"}
    assert "--peer-cert-allowed-cn" in refusal(shared | changed)


def test_one_of_several_authorities_is_enough_to_be_shared(flags: dict[str, str], tmp_path: Path) -> None:
    both = tmp_path / "both.crt"
    both.write_bytes(b"".join(Path(flags[name]).read_bytes() for name in ("peer_trusted_ca_file", "trusted_ca_file")))
    assert "shares an authority" in refusal(flags | {"peer_trusted_ca_file": str(both)})


def test_an_authority_that_has_signed_the_clients_is_shared(flags: dict[str, str], tmp_path: Path) -> None:
    root = certificates.authority("root")
    root.write(tmp_path, "root")
    certificates.issue(root, "clients").write(tmp_path, "intermediate")
    changed = {"peer_trusted_ca_file": f"{tmp_path}/root.crt", "trusted_ca_file": f"{tmp_path}/intermediate.crt"}
    assert "shares an authority" in refusal(flags | changed)


def test_each_worker_has_an_address_of_its_own_for_daemons(flags: dict[str, str]) -> None:
    second = settings_of(load(flags), 1)
    assert second.listen_peer_urls == second.initial_advertise_peer_urls == ("https://127.0.0.1:2381",)
