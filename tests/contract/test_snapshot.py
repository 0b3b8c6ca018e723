"""Snapshot: the stream that carries a keyspace as a file, which is etcd's own."""

import hashlib
from pathlib import Path

import pytest

from fetch.snapshots import schema
from fetch.snapshots.reader import FileReader
from tests.endpoints.client import Client
from tests.endpoints.server import Endpoint
from tests.snapshots.etcds import save, write


@pytest.fixture(autouse=True)
def _needs_a_store(endpoint: Endpoint) -> None:
    if endpoint.name == "fetch-memory":
        pytest.skip("the engine in memory keeps nothing that a snapshot could be taken of")


def test_a_snapshot_ends_with_the_hash_of_what_came_before(client: Client) -> None:
    client.put(b"a", b"v" * 100_000)
    *pieces, last = (piece.blob for piece in client.snapshot())
    assert last == hashlib.sha256(b"".join(pieces)).digest()


def test_each_piece_tells_how_much_is_to_come_before_the_hash(client: Client) -> None:
    client.put(b"a", b"v" * 100_000)
    *pieces, last = client.snapshot()
    size = sum(len(piece.blob) for piece in pieces)
    sent = [size := size - len(piece.blob) for piece in pieces]
    assert ([piece.remaining_bytes for piece in pieces], last.remaining_bytes) == (sent, 0)


def test_a_snapshot_comes_in_pieces(client: Client) -> None:
    client.put(b"a", b"v" * 1_000_000)
    pieces = client.snapshot()
    assert max(len(piece.blob) for piece in pieces) <= 64 << 10 < sum(len(piece.blob) for piece in pieces)


def test_all_pieces_tell_the_storage_version_of_the_file(client: Client, tmp_path: Path) -> None:
    pieces = client.snapshot()
    with FileReader(write(pieces, tmp_path / "snapshot")) as file:
        stored = dict(file.rows(schema.META)).get(b"storageVersion", b"")
    assert {piece.version for piece in pieces} == {stored.decode()}


def test_a_snapshot_has_the_buckets_that_etcd_has(client: Client, tmp_path: Path) -> None:
    with FileReader(save(client, tmp_path / "snapshot")) as file:
        assert set(file.buckets()) == {schema.KEY, schema.LEASE, schema.ALARM, schema.META, *schema.EMPTY}


def test_a_snapshot_has_the_newest_value_of_a_key_last(client: Client, tmp_path: Path) -> None:
    client.put(b"a", b"1")
    client.put(b"a", b"2")
    newest = client.get(b"a")
    with FileReader(save(client, tmp_path / "snapshot")) as file:
        *_, last = file.rows(schema.KEY)
    assert last == (schema.revision_key(newest.mod_revision, 0), newest.SerializeToString())


def test_a_deletion_is_a_row_of_its_own(client: Client, tmp_path: Path) -> None:
    client.put(b"a", b"1")
    revision = client.delete_range(b"a").header.revision
    with FileReader(save(client, tmp_path / "snapshot")) as file:
        *_, last = file.rows(schema.KEY)
    assert last == (schema.revision_key(revision, 0, deleted=True), schema.tombstone(b"a"))


def test_a_snapshot_has_the_leases(client: Client, tmp_path: Path) -> None:
    client.lease_grant(600, 42)
    with FileReader(save(client, tmp_path / "snapshot")) as file:
        assert list(file.rows(schema.LEASE)) == [schema.lease_row(42, 600)]


def test_a_snapshot_has_the_alarms(client: Client, tmp_path: Path) -> None:
    client.alarm("ACTIVATE", "NOSPACE", 42)
    with FileReader(save(client, tmp_path / "snapshot")) as file:
        assert list(file.rows(schema.ALARM)) == schema.alarm_rows({(42, 1)})


def test_a_snapshot_tells_the_compacted_revision(client: Client, tmp_path: Path) -> None:
    revision = client.put(b"a").header.revision
    client.compact(revision, physical=True)
    with FileReader(save(client, tmp_path / "snapshot")) as file:
        assert dict(file.rows(schema.META))[schema.FINISHED_COMPACTION] == schema.revision_key(revision, 0)


def test_a_keyspace_that_nobody_has_written_to_has_a_snapshot(new_client: Client, tmp_path: Path) -> None:
    with FileReader(save(new_client, tmp_path / "snapshot")) as file:
        assert list(file.rows(schema.KEY)) == []
