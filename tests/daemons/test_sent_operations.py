"""Each kind of write can be sent to another daemon. The contract suite does the same at length: FETCH_TEST_SENDING=1."""

import urllib.request
from collections.abc import Iterator

import pytest

from fetch.api.rpc_pb2 import LeaseKeepAliveRequest, PutRequest, RequestOp
from tests.endpoints.client import Client
from tests.endpoints.fetch import SENDING, FetchServer
from tests.endpoints.process import free_port


@pytest.fixture(scope="module")
def metrics() -> int:
    return free_port()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, metrics: int) -> Iterator[FetchServer]:
    flags = [f"--listen-metrics-urls=http://127.0.0.1:{metrics}"]
    with SENDING.start(tmp_path_factory.mktemp("sending"), flags) as server:
        with server.connect() as client:
            while not sent(metrics):  # until the two have found each other
                client.put(b"first")
        yield server


def sent(metrics: int) -> int:
    """How many writes the other daemon has answered."""
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics") as page:
        lines = page.read().decode().splitlines()
    return sum(
        int(float(line.split()[1])) for line in lines if line.startswith('fetch_peers_writes_total{result="answered"')
    )


def lease(client: Client) -> None:
    client.lease_grant(60, 7)


def renew(client: Client) -> None:
    client.lease_grant(2, 8)
    with client.lease_keep_alive() as stream:
        stream.send(LeaseKeepAliveRequest(ID=8))
        assert stream.receive().TTL == 2


def revoke(client: Client) -> None:
    client.lease_grant(60, 9)
    client.lease_revoke(9)


def compact(client: Client) -> None:
    client.put(b"a")
    client.compact(client.put(b"a").header.revision)


def alarm(client: Client) -> None:
    client.alarm("ACTIVATE", "CORRUPT", 5)


WRITES = {
    "put": (1, lambda client: client.put(b"key", b"value", prev_kv=True)),
    "delete": (1, lambda client: client.delete_range(b"key", b"kez")),
    "txn": (1, lambda client: client.txn(success=[RequestOp(request_put=PutRequest(key=b"key"))])),
    "lease": (1, lease),
    "renew": (2, renew),
    "revoke": (2, revoke),
    "compact": (3, compact),
    "alarm": (1, alarm),
}


@pytest.mark.parametrize("kind", WRITES)
def test_a_write_of_this_kind_is_sent(daemon: FetchServer, metrics: int, kind: str) -> None:
    count, write = WRITES[kind]
    with daemon.new_keyspace() as client:
        client.revision()  # the tenant is opened
        before = sent(metrics)
        write(client)
        assert sent(metrics) == before + count


def test_what_the_other_daemon_refuses_is_refused_in_its_words(daemon: FetchServer) -> None:
    with daemon.new_keyspace() as client:
        client.lease_grant(60, 7)
        with pytest.raises(Exception, match="etcdserver: lease already exists"):
            client.lease_grant(60, 7)


def test_what_may_be_answered_with_much_is_not_sent(daemon: FetchServer, metrics: int) -> None:
    with daemon.new_keyspace() as client:
        client.put(b"key", b"value")
        before = sent(metrics)
        assert client.delete_range(b"key", b"kez", prev_kv=True).deleted == 1
        assert sent(metrics) == before
