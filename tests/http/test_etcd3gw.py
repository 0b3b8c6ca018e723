"""etcd3gw, OpenStack's client of the gateway, on etcd and on fetch."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.http.web import Web

etcd3gw = pytest.importorskip("etcd3gw")


@pytest.fixture
def client(web: Web, monkeypatch: pytest.MonkeyPatch) -> Iterator["etcd3gw.Etcd3Client"]:
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # which win over what the client is told
        monkeypatch.delenv(variable, raising=False)
    parts = urlsplit(web.url)
    made = etcd3gw.client(
        host=parts.hostname,
        port=parts.port,
        protocol=parts.scheme,
        api_path="/v3/",
        timeout=60,
        **(
            {}
            if web.certificate is None
            else {
                "ca_cert": str(web.authority),
                "cert_cert": f"{web.certificate}.crt",
                "cert_key": f"{web.certificate}.key",
            }
        ),
    )
    made.delete("\0", range_end="\0")
    yield made
    made.session.close()


def test_keys_are_put_got_and_deleted(client: "etcd3gw.Etcd3Client") -> None:
    assert client.put("a", "1")
    assert client.get("a") == [b"1"]
    assert client.create("b", "2")
    assert not client.create("b", "3")
    assert client.replace("a", "1", "4")
    assert [value for value, _ in client.get_all()] == [b"4", b"2"]
    assert client.delete("a")
    assert client.get("a") == []


def test_leases_are_granted_kept_and_revoked(client: "etcd3gw.Etcd3Client") -> None:
    lease = client.lease(ttl=60)
    client.put("a", "1", lease)
    assert lease.keys() == [b"a"]
    assert lease.refresh() == 60
    assert lease.ttl() > 0
    assert lease.revoke()
    assert client.get("a") == []


def test_locks_are_taken_and_given_back(client: "etcd3gw.Etcd3Client") -> None:
    with client.lock("l", ttl=60) as lock:
        assert lock.is_acquired()
    assert not lock.is_acquired()


def test_a_key_is_watched(client: "etcd3gw.Etcd3Client") -> None:
    events, cancel = client.watch("w")
    client.put("w", "1")
    assert next(events)["kv"]["value"] == b"1"
    client.delete("w")
    assert next(events)["type"] == "DELETE"
    cancel()


def test_the_cluster_tells_of_itself(client: "etcd3gw.Etcd3Client") -> None:
    assert client.status()["version"].startswith("3.7")
    assert client.members()
