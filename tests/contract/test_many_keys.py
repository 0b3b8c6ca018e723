"""Lists of thousands of keys, now and in the past, compared with what is known to have been written."""

import random
from collections.abc import Iterator

import pytest

from fetch.api import kv_pb2, rpc_pb2
from tests.endpoints import requests as op
from tests.endpoints.client import Client
from tests.endpoints.refusals import COMPACTED, refused
from tests.endpoints.server import Server

KEYS = 2500
CHANGES = 40
"""Transactions that change some keys each, after all have been written."""

State = dict[bytes, kv_pb2.KeyValue]


def name(number: int) -> bytes:
    return b"/registry/pods/%05d" % number


class Written:
    """A keyspace, and the state that it has had at each of some revisions."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.states: dict[int, State] = {}
        self._current: State = {}
        self._random = random.Random(20)
        for first in range(0, KEYS, 100):
            self._put([name(number) for number in range(first, min(first + 100, KEYS))])
        self._keep()
        for _ in range(CHANGES):
            self._change()
            self._keep()

    def _change(self) -> None:
        chosen = self._random.sample(range(KEYS + 200), 60)
        self._put([name(number) for number in chosen[:40]])
        deleted = [name(number) for number in chosen[40:]]
        self._revision = self.client.txn((), [op.delete(key) for key in deleted]).header.revision
        for key in deleted:
            self._current.pop(key, None)

    def _put(self, keys: list[bytes]) -> None:
        value = b"%d" % self._random.randrange(10**9)
        self._revision = self.client.txn((), [op.put(key, value) for key in keys]).header.revision
        for key in keys:
            before = self._current.get(key)
            self._current[key] = kv_pb2.KeyValue(
                key=key,
                value=value,
                mod_revision=self._revision,
                create_revision=before.create_revision if before else self._revision,
                version=before.version + 1 if before else 1,
            )

    def _keep(self) -> None:
        self.states[self._revision] = dict(self._current)

    def some(self) -> list[int]:
        """The first revision, the last, and some between."""
        revisions = sorted(self.states)
        return [*revisions[:: CHANGES // 4], revisions[-1]]

    def at(self, revision: int, start: bytes = name(0), end: bytes = name(99999)) -> list[kv_pb2.KeyValue]:
        """What a list at the revision must give."""
        state = self.states[revision]
        return [state[key] for key in sorted(state) if start <= key < end]


@pytest.fixture(scope="module")
def written(server: Server) -> Iterator[Written]:
    """One keyspace for all tests that only read."""
    with server.empty_keyspace() as client:
        yield Written(client)


def pages(client: Client, size: int, revision: int, start: bytes = name(0)) -> list[rpc_pb2.RangeResponse]:
    answers = [client.range(start, name(99999), limit=size, revision=revision)]
    while answers[-1].more:
        following = answers[-1].kvs[-1].key + b"\0"
        answers.append(client.range(following, name(99999), limit=size, revision=revision))
    return answers


def test_a_list_at_any_revision_gives_what_there_was(written: Written) -> None:
    for revision in written.some():
        answer = written.client.range(name(0), name(99999), revision=revision)
        assert list(answer.kvs) == written.at(revision)
        assert (answer.count, answer.more) == (len(answer.kvs), False)


@pytest.mark.parametrize("size", [7, 500, 999, 1000, 1001])
def test_pages_at_any_revision_give_what_there_was(written: Written, size: int) -> None:
    revisions = written.some() if size > 7 else written.some()[2:3]
    for revision in revisions:
        found = [kv for answer in pages(written.client, size, revision) for kv in answer.kvs]
        assert found == written.at(revision)


def test_the_count_of_each_page_is_what_is_left_at_its_revision(written: Written) -> None:
    for revision in written.some():
        left = len(written.at(revision))
        for answer in pages(written.client, 300, revision):
            assert answer.count == left
            left -= len(answer.kvs)


def test_a_count_at_any_revision_counts_what_there_was(written: Written) -> None:
    for revision in written.states:
        answer = written.client.range(name(100), name(2000), revision=revision, count_only=True)
        assert answer.count == len(written.at(revision, name(100), name(2000)))


def test_counts_forth_and_back_in_time_agree(written: Written) -> None:
    revisions = [*sorted(written.states), *sorted(written.states, reverse=True)]
    for revision in revisions:
        answer = written.client.range(name(0), name(99999), revision=revision, limit=1)
        assert answer.count == len(written.at(revision))


@pytest.mark.since(3, 7, "there is no RangeStream")
def test_a_stream_at_any_revision_gives_what_there_was(written: Written) -> None:
    for revision in written.some():
        chunks = written.client.range_stream(name(0), name(99999), revision=revision)
        assert [kv for chunk in chunks for kv in chunk.kvs] == written.at(revision)


def test_a_part_of_the_past_gives_what_there_was(written: Written) -> None:
    for revision in written.some():
        answer = written.client.range(name(1200), name(1300), revision=revision)
        assert list(answer.kvs) == written.at(revision, name(1200), name(1300))


def test_the_newest_keys_come_last_when_sorted_by_revision(written: Written) -> None:
    revision = max(written.states)
    answer = written.client.range(name(0), name(99999), sort_target="MOD", sort_order="DESCEND", limit=1500)
    found = [kv.mod_revision for kv in answer.kvs]
    assert found == sorted((kv.mod_revision for kv in written.at(revision)), reverse=True)[:1500]


def test_keys_changed_since_a_revision_are_found(written: Written) -> None:
    first, *_, last = sorted(written.states)
    answer = written.client.range(name(0), name(99999), min_mod_revision=first + 1)
    assert list(answer.kvs) == [kv for kv in written.at(last) if kv.mod_revision > first]


def test_a_watch_of_the_past_leads_from_one_state_to_the_other(written: Written) -> None:
    first, *_, last = sorted(written.states)
    state = dict(written.states[first])
    seen = first
    with written.client.watch() as watch:
        watch.create(name(0), name(99999), start_revision=first + 1, prev_kv=True)
        while seen < last:
            for event in watch.receive().events:
                before = state.pop(event.kv.key, None)
                assert event.prev_kv == (before or kv_pb2.KeyValue())
                if event.type == kv_pb2.Event.PUT:
                    state[event.kv.key] = event.kv
                seen = event.kv.mod_revision
    assert state == written.states[last]


def test_what_is_above_a_compaction_of_thousands_of_events_stays(new_client: Client) -> None:
    written = Written(new_client)
    revisions = sorted(written.states)
    middle = revisions[CHANGES // 2]
    new_client.compact(middle, physical=True)
    with refused(COMPACTED):
        new_client.range(name(0), name(99999), revision=middle - 1)
    for revision in revisions[CHANGES // 2 :]:
        assert list(new_client.range(name(0), name(99999), revision=revision).kvs) == written.at(revision)
