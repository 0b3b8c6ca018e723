"""Watch: which events come, with what in them, in which order, and how watches begin and end."""

import threading

import pytest

from fetch.api import kv_pb2, rpc_pb2
from tests.endpoints import requests as op
from tests.endpoints.client import FROM_KEY, Client, WatchStream

PUT, DELETE = kv_pb2.Event.PUT, kv_pb2.Event.DELETE


def described(events: list[kv_pb2.Event]) -> list[tuple[int, bytes, bytes]]:
    """Type, key and value of each."""
    return [(event.type, event.kv.key, event.kv.value) for event in events]


def keys(events: list[kv_pb2.Event]) -> list[bytes]:
    return [event.kv.key for event in events]


# the beginning


def test_a_watch_is_confirmed_with_the_current_revision(client: Client) -> None:
    revision = client.put(b"a").header.revision
    with client.watch() as watch:
        created = watch.create(b"a")
    assert (created.created, created.canceled, created.watch_id, created.header.revision) == (True, False, 0, revision)
    assert (len(created.events), created.compact_revision, created.cancel_reason) == (0, 0, "")


def test_a_watch_without_a_start_sees_what_comes_after_it(client: Client) -> None:
    client.put(b"a", b"before")
    with client.watch() as watch:
        watch.create(b"a")
        client.put(b"a", b"after")
        assert described(watch.events(1)) == [(PUT, b"a", b"after")]


def test_a_watch_from_a_past_revision_sees_it_and_what_follows(client: Client) -> None:
    client.put(b"a", b"0")
    start = client.put(b"a", b"1").header.revision
    client.put(b"a", b"2")
    with client.watch() as watch:
        watch.create(b"a", start_revision=start)
        assert described(watch.events(2)) == [(PUT, b"a", b"1"), (PUT, b"a", b"2")]


def test_a_watch_from_the_past_goes_on_with_the_present(client: Client) -> None:
    start = client.put(b"a", b"1").header.revision
    with client.watch() as watch:
        watch.create(b"a", start_revision=start)
        watch.events(1)
        client.put(b"a", b"2")
        assert described(watch.events(1)) == [(PUT, b"a", b"2")]


def test_a_watch_from_the_current_revision_sees_the_last_write(client: Client) -> None:
    revision = client.put(b"a", b"1").header.revision
    with client.watch() as watch:
        watch.create(b"a", start_revision=revision)
        assert described(watch.events(1)) == [(PUT, b"a", b"1")]


def test_a_watch_from_the_next_revision_sees_the_next_write(client: Client) -> None:
    revision = client.put(b"a", b"1").header.revision
    with client.watch() as watch:
        watch.create(b"a", start_revision=revision + 1)
        client.put(b"a", b"2")
        assert described(watch.events(1)) == [(PUT, b"a", b"2")]


def test_a_watch_from_a_future_revision_waits_for_it(client: Client) -> None:
    revision = client.put(b"a", b"0").header.revision
    with client.watch() as watch:
        watch.create(b"a", start_revision=revision + 3)
        for value in (b"1", b"2", b"3"):
            client.put(b"a", value)
        assert described(watch.events(1)) == [(PUT, b"a", b"3")]


def test_a_watch_without_a_key_starts_at_the_first_key(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"", FROM_KEY)
        client.put(b"a")
        assert keys(watch.events(1)) == [b"a"]


# which keys


def test_a_watch_of_a_key_sees_no_other(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a")
        client.put(b"aa")
        client.put(b"b")
        client.put(b"a")
        assert keys(watch.events(1)) == [b"a"]


def test_a_watch_of_a_range_excludes_its_end(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"b", b"d")
        for name in (b"a", b"b", b"bb", b"d", b"c"):
            client.put(name)
        assert keys(watch.events(3)) == [b"b", b"bb", b"c"]


def test_a_watch_of_a_past_range_excludes_its_end(client: Client) -> None:
    start = client.revision() + 1
    for name in (b"a", b"b", b"bb", b"d", b"c"):
        client.put(name)
    with client.watch() as watch:
        watch.create(b"b", b"d", start_revision=start)
        assert keys(watch.events(3)) == [b"b", b"bb", b"c"]


def test_a_zero_byte_as_end_watches_every_key_from_the_start_on(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"b", FROM_KEY)
        for name in (b"a", b"b", b"\xff"):
            client.put(name)
        assert keys(watch.events(2)) == [b"b", b"\xff"]


def test_zero_bytes_as_key_and_end_watch_every_key(client: Client) -> None:
    with client.watch() as watch:
        watch.create(FROM_KEY, FROM_KEY)
        for name in (b"\x00", b"a", b"\xff\xff"):
            client.put(name)
        assert keys(watch.events(3)) == [b"\x00", b"a", b"\xff\xff"]


@pytest.mark.parametrize("end", [b"a", b"b"])
def test_a_watch_of_an_empty_range_is_refused(client: Client, end: bytes) -> None:
    with client.watch() as watch:
        created = watch.create(b"b", end)
    assert (created.created, created.canceled, created.watch_id) == (True, True, -1)
    assert created.cancel_reason == "mvcc: watcher range is empty"


# what an event holds


def test_a_put_event_holds_the_whole_key_value(client: Client) -> None:
    lease = client.lease_grant(600).ID
    with client.watch() as watch:
        watch.create(b"a")
        client.put(b"a", b"1")
        client.put(b"a", b"2", lease=lease)
        events = watch.events(2)
    assert events[1] == kv_pb2.Event(type=PUT, kv=client.get(b"a"))


def test_a_delete_event_holds_the_key_and_the_revision_of_the_delete(client: Client) -> None:
    client.put(b"a", b"1")
    with client.watch() as watch:
        watch.create(b"a")
        revision = client.delete_range(b"a").header.revision
        (event,) = watch.events(1)
    assert event == kv_pb2.Event(type=DELETE, kv=kv_pb2.KeyValue(key=b"a", mod_revision=revision))


def test_a_past_delete_event_is_the_same(client: Client) -> None:
    client.put(b"a", b"1")
    revision = client.delete_range(b"a").header.revision
    with client.watch() as watch:
        watch.create(b"a", start_revision=revision)
        (event,) = watch.events(1)
    assert event == kv_pb2.Event(type=DELETE, kv=kv_pb2.KeyValue(key=b"a", mod_revision=revision))


def test_a_past_event_holds_the_value_of_its_time(client: Client) -> None:
    revision = client.put(b"a", b"1").header.revision
    before = client.get(b"a")
    client.put(b"a", b"2")
    with client.watch() as watch:
        watch.create(b"a", start_revision=revision)
        assert watch.events(2)[0].kv == before


def test_without_prev_kv_events_hold_no_previous_value(client: Client) -> None:
    client.put(b"a", b"1")
    with client.watch() as watch:
        watch.create(b"a")
        client.put(b"a", b"2")
        (event,) = watch.events(1)
    assert not event.HasField("prev_kv")


def test_prev_kv_of_an_update_is_what_was_there_before(client: Client) -> None:
    client.put(b"a", b"1")
    before = client.get(b"a")
    with client.watch() as watch:
        watch.create(b"a", prev_kv=True)
        client.put(b"a", b"2")
        (event,) = watch.events(1)
    assert event.prev_kv == before


def test_prev_kv_of_a_delete_is_what_was_there_before(client: Client) -> None:
    client.put(b"a", b"1")
    before = client.get(b"a")
    with client.watch() as watch:
        watch.create(b"a", prev_kv=True)
        client.delete_range(b"a")
        (event,) = watch.events(1)
    assert event.prev_kv == before


def test_prev_kv_of_a_create_is_absent(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", prev_kv=True)
        client.put(b"a", b"1")
        (event,) = watch.events(1)
    assert not event.HasField("prev_kv")


def test_prev_kv_of_a_recreation_is_absent(client: Client) -> None:
    client.put(b"a", b"1")
    client.delete_range(b"a")
    with client.watch() as watch:
        watch.create(b"a", prev_kv=True)
        client.put(b"a", b"2")
        (event,) = watch.events(1)
    assert not event.HasField("prev_kv")


def test_prev_kv_of_past_events_is_what_was_there_before_each(client: Client) -> None:
    client.put(b"a", b"1")
    start = client.put(b"a", b"2").header.revision
    client.put(b"a", b"3")
    client.delete_range(b"a")
    client.put(b"a", b"4")
    with client.watch() as watch:
        watch.create(b"a", start_revision=start, prev_kv=True)
        assert [event.prev_kv.value for event in watch.events(4)] == [b"1", b"2", b"3", b""]


def test_prev_kv_that_is_compacted_is_absent(client: Client) -> None:
    client.put(b"a", b"1")
    start = client.put(b"a", b"2").header.revision
    client.put(b"a", b"3")
    client.compact(start, physical=True)
    with client.watch() as watch:
        watch.create(b"a", start_revision=start, prev_kv=True)
        assert [event.prev_kv.value for event in watch.events(2)] == [b"", b"2"]


# filters


def test_noput_leaves_out_puts(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", b"z", filters=["NOPUT"])
        client.put(b"a")
        client.delete_range(b"a")
        client.put(b"b")
        client.delete_range(b"b")
        assert [(event.type, event.kv.key) for event in watch.events(2)] == [(DELETE, b"a"), (DELETE, b"b")]


def test_nodelete_leaves_out_deletes(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", b"z", filters=["NODELETE"])
        client.put(b"a")
        client.delete_range(b"a")
        client.put(b"b")
        assert [(event.type, event.kv.key) for event in watch.events(2)] == [(PUT, b"a"), (PUT, b"b")]


def test_filters_apply_to_the_past(client: Client) -> None:
    start = client.put(b"a").header.revision
    client.delete_range(b"a")
    client.put(b"b")
    with client.watch() as watch:
        watch.create(b"a", b"z", start_revision=start, filters=["NOPUT"])
        client.delete_range(b"b")
        assert [(event.type, event.kv.key) for event in watch.events(2)] == [(DELETE, b"a"), (DELETE, b"b")]


def test_both_filters_leave_nothing(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", filters=["NOPUT", "NODELETE"], watch_id=1)
        watch.create(b"b", watch_id=2)
        client.put(b"a")
        client.delete_range(b"a")
        client.put(b"b")
        assert watch.receive().watch_id == 2


def test_filters_and_previous_values_go_together(client: Client) -> None:
    client.put(b"a", b"1")
    with client.watch() as watch:
        watch.create(b"a", filters=["NOPUT"], prev_kv=True)
        client.put(b"a", b"2")
        client.delete_range(b"a")
        (event,) = watch.events(1)
    assert event.prev_kv.value == b"2"


# transactions


def test_the_events_of_a_transaction_come_in_one_response(client: Client) -> None:
    client.put(b"c")
    with client.watch() as watch:
        watch.create(b"a", b"z")
        client.txn((), [op.put(b"b"), op.delete(b"c"), op.put(b"a")])
        assert len(watch.receive().events) == 3


def test_the_events_of_a_transaction_come_in_the_order_of_its_operations(client: Client) -> None:
    client.put(b"c")
    with client.watch() as watch:
        watch.create(b"a", b"z")
        client.txn((), [op.put(b"b"), op.delete(b"c"), op.put(b"a")])
        assert [(event.type, event.kv.key) for event in watch.events(3)] == [(PUT, b"b"), (DELETE, b"c"), (PUT, b"a")]


def test_the_events_of_a_transaction_share_its_revision(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", b"z")
        revision = client.txn((), [op.put(b"a"), op.put(b"b")]).header.revision
        assert [event.kv.mod_revision for event in watch.events(2)] == [revision, revision]


def test_the_events_of_a_deleted_range_come_in_key_order_in_one_response(client: Client) -> None:
    for name in (b"c", b"a", b"b"):
        client.put(name)
    with client.watch() as watch:
        watch.create(b"a", b"z")
        client.delete_range(b"a", b"z")
        assert keys(list(watch.receive().events)) == [b"a", b"b", b"c"]


def test_the_events_of_a_past_transaction_come_in_one_response(client: Client) -> None:
    revision = client.txn((), [op.put(b"b"), op.put(b"a"), op.put(b"c")]).header.revision
    with client.watch() as watch:
        watch.create(b"a", b"z", start_revision=revision)
        assert keys(list(watch.receive().events)) == [b"b", b"a", b"c"]


def test_a_watch_sees_its_part_of_a_transaction(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"b")
        client.txn((), [op.put(b"a"), op.put(b"b"), op.put(b"c")])
        assert keys(list(watch.receive().events)) == [b"b"]


def test_a_failed_compare_makes_no_event(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", b"z")
        client.txn([op.version(b"a", "=", 7)], [op.put(b"a")])
        client.put(b"b")
        assert keys(watch.events(1)) == [b"b"]


def test_a_key_that_is_put_and_deleted_in_one_transaction_makes_both_events(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", b"z", prev_kv=True)
        client.txn((), [op.put(b"a", b"1"), op.delete(b"a", FROM_KEY)])
        events = watch.events(2)
    assert [event.type for event in events] == [PUT, DELETE]
    assert not any(event.HasField("prev_kv") for event in events)


def test_a_watch_never_splits_a_revision(client: Client) -> None:
    start = client.revision() + 1
    for _ in range(20):
        client.txn((), [op.put(b"%03d" % number, b"v" * 1000) for number in range(100)])
    with client.watch() as watch:
        watch.create(b"0", b"9", start_revision=start)
        seen: list[int] = []
        while len(seen) < 2000:
            revisions = [event.kv.mod_revision for event in watch.receive().events]
            assert all(revisions.count(revision) == 100 for revision in set(revisions))
            seen += revisions
    assert seen == sorted(seen)


# headers


def test_a_response_carries_the_revision_of_its_events(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a")
        revision = client.put(b"a").header.revision
        assert watch.receive().header.revision == revision


def test_a_response_with_past_events_carries_the_current_revision(client: Client) -> None:
    start = client.put(b"a").header.revision
    last = client.put(b"b").header.revision
    with client.watch() as watch:
        watch.create(b"a", start_revision=start)
        assert watch.receive().header.revision == last


# several watches on one stream


def test_watches_are_numbered_from_zero(client: Client) -> None:
    with client.watch() as watch:
        assert [watch.create(b"a").watch_id for _ in range(3)] == [0, 1, 2]


def test_a_watch_may_bring_its_own_number(client: Client) -> None:
    with client.watch() as watch:
        assert watch.create(b"a", watch_id=17).watch_id == 17
        client.put(b"a")
        assert watch.receive().watch_id == 17


def test_given_numbers_are_skipped_when_numbering(client: Client) -> None:
    with client.watch() as watch:
        ids = [watch.create(b"a", watch_id=number).watch_id for number in (1, 2, 0, 0)]
    assert ids == [1, 2, 0, 3]


def test_a_number_that_is_in_use_is_refused(client: Client) -> None:
    revision = client.revision()
    with client.watch() as watch:
        watch.create(b"a", watch_id=5)
        answer = watch.create(b"b", watch_id=5)
    assert (answer.created, answer.canceled, answer.watch_id, answer.header.revision) == (True, True, -1, revision)
    assert answer.cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"


def test_the_first_holder_of_a_number_goes_on(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", watch_id=5)
        watch.create(b"b", watch_id=5)
        client.put(b"b")
        client.put(b"a")
        assert keys(watch.events(1)) == [b"a"]


def test_a_number_is_free_again_after_cancelling(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", watch_id=5)
        watch.cancel(5)
        watch.receive()
        assert not watch.create(b"b", watch_id=5).canceled


def test_a_negative_number_is_a_number(client: Client) -> None:
    with client.watch() as watch:
        assert watch.create(b"a", watch_id=-7).watch_id == -7
        client.put(b"a")
        assert watch.receive().watch_id == -7


def test_each_watch_on_a_stream_sees_its_own_keys(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", watch_id=1)
        watch.create(b"b", watch_id=2)
        client.put(b"a")
        client.put(b"b")
        responses = [watch.receive() for _ in range(2)]
    assert {response.watch_id: keys(list(response.events)) for response in responses} == {1: [b"a"], 2: [b"b"]}


def test_two_watches_of_a_key_both_see_it(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", watch_id=1)
        watch.create(b"a", b"z", watch_id=2, prev_kv=True)
        client.put(b"a")
        assert {watch.receive().watch_id for _ in range(2)} == {1, 2}


def test_streams_number_their_watches_on_their_own(client: Client) -> None:
    with client.watch() as one, client.watch() as other:
        assert (one.create(b"a").watch_id, other.create(b"a").watch_id) == (0, 0)


# the end


def test_cancelling_is_confirmed(client: Client) -> None:
    revision = client.revision()
    with client.watch() as watch:
        watch.create(b"a", watch_id=5)
        watch.cancel(5)
        answer = watch.receive()
    expected = rpc_pb2.WatchResponse(header=answer.header, watch_id=5, canceled=True)
    assert answer == expected
    assert answer.header.revision == revision


def test_a_cancelled_watch_sees_nothing_more(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", watch_id=5)
        watch.create(b"a", b"z", watch_id=6)
        watch.cancel(5)
        watch.receive()
        client.put(b"a")
        client.put(b"b")
        assert {watch.receive().watch_id for _ in range(2)} == {6}


def test_cancelling_an_unknown_watch_is_not_answered(client: Client) -> None:
    with client.watch() as watch:
        watch.cancel(99)
        assert watch.create(b"a").created


def test_cancelling_twice_is_answered_once(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", watch_id=5)
        watch.cancel(5)
        watch.cancel(5)
        assert watch.receive().canceled
        assert watch.create(b"b").created


def test_a_watch_from_a_compacted_revision_is_cancelled(client: Client) -> None:
    start = client.put(b"a").header.revision
    client.put(b"a")
    compacted = client.put(b"a").header.revision
    client.compact(compacted)
    with client.watch() as watch:
        assert watch.create(b"a", start_revision=start).created
        answer = watch.receive()
    expected = rpc_pb2.WatchResponse(header=answer.header, canceled=True, compact_revision=compacted)
    assert answer == expected
    assert answer.header.revision == 0


def test_a_watch_from_the_compacted_revision_itself_sees_it(client: Client) -> None:
    client.put(b"a", b"1")
    compacted = client.put(b"a", b"2").header.revision
    client.compact(compacted, physical=True)
    with client.watch() as watch:
        watch.create(b"a", start_revision=compacted)
        assert described(watch.events(1)) == [(PUT, b"a", b"2")]


def test_a_compaction_does_not_disturb_a_watch_that_is_up_to_date(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a")
        client.put(b"a", b"1")
        watch.events(1)
        client.compact(client.put(b"b").header.revision, physical=True)
        client.put(b"a", b"2")
        assert described(watch.events(1)) == [(PUT, b"a", b"2")]


def test_a_cancelled_start_does_not_disturb_other_watches(client: Client) -> None:
    start = client.put(b"a").header.revision
    client.compact(client.put(b"a").header.revision)
    with client.watch() as watch:
        watch.create(b"b", watch_id=1)
        watch.create(b"a", watch_id=2, start_revision=start)
        assert watch.receive().canceled
        client.put(b"b")
        assert watch.receive().watch_id == 1


def watch_that_compaction_ends(client: Client, watch: WatchStream, watch_id: int) -> None:
    """A watch that has been told that its start is compacted."""
    start = client.put(b"a").header.revision
    client.compact(client.put(b"a").header.revision)
    watch.create(b"a", start_revision=start, watch_id=watch_id)
    assert watch.receive().compact_revision


def test_cancelling_a_watch_that_compaction_has_ended_is_answered(client: Client) -> None:
    with client.watch() as watch:
        watch_that_compaction_ends(client, watch, 5)
        watch.cancel(5)
        answer = watch.receive()
    assert answer == rpc_pb2.WatchResponse(header=answer.header, watch_id=5, canceled=True)
    assert answer.header.revision > 0


def test_the_number_of_a_watch_that_compaction_has_ended_stays_taken(client: Client) -> None:
    with client.watch() as watch:
        watch_that_compaction_ends(client, watch, 5)
        answer = watch.create(b"b", watch_id=5)
    assert (answer.canceled, answer.cancel_reason) == (True, "mvcc: duplicate watch ID provided on the WatchStream")


def test_the_number_of_a_watch_that_compaction_has_ended_is_free_once_it_is_cancelled(client: Client) -> None:
    with client.watch() as watch:
        watch_that_compaction_ends(client, watch, 5)
        watch.cancel(5)
        watch.receive()
        assert not watch.create(b"b", watch_id=5).canceled
        client.put(b"b")
        assert keys(watch.events(1)) == [b"b"]


def test_a_number_that_is_cancelled_and_used_anew_sees_what_its_new_watch_is_for(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", watch_id=5)
        client.put(b"a")
        watch.cancel(5)
        responses = [watch.receive()]
        while not responses[-1].canceled:
            responses.append(watch.receive())
        watch.create(b"b", watch_id=5)
        client.put(b"a")
        client.put(b"b")
        assert keys(watch.events(1)) == [b"b"]


@pytest.mark.since(3, 6, "a negative start revision watches the present")
def test_a_negative_start_revision_is_refused(client: Client) -> None:
    revision = client.revision()
    with client.watch() as watch:
        answer = watch.create(b"a", start_revision=-1)
    assert (answer.created, answer.canceled, answer.watch_id) == (True, True, -1)
    assert answer.cancel_reason == "etcdserver: mvcc: required revision has been compacted"
    assert (answer.compact_revision, answer.header.revision) == (0, revision)


def test_a_request_that_asks_for_nothing_is_ignored(client: Client) -> None:
    with client.watch() as watch:
        watch.send(rpc_pb2.WatchRequest())
        assert watch.create(b"a").created


def test_the_stream_goes_on_after_the_client_has_said_all(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a")
        watch.end_requests()
        client.put(b"a")
        assert keys(watch.events(1)) == [b"a"]


# progress


def test_a_progress_request_is_answered_for_the_whole_stream(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a")
        revision = client.put(b"b").header.revision
        watch.request_progress()
        answer = watch.receive()
    assert answer == rpc_pb2.WatchResponse(header=answer.header, watch_id=-1)
    assert answer.header.revision == revision


def test_a_progress_request_is_answered_once_for_several_watches(client: Client) -> None:
    with client.watch() as watch:
        for number in range(1, 4):
            watch.create(b"a", watch_id=number)
        watch.request_progress()
        assert watch.receive().watch_id == -1
        client.put(b"a")
        assert {watch.receive().watch_id for _ in range(3)} == {1, 2, 3}


def test_progress_comes_after_the_events_it_speaks_of(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", b"z")
        for number in range(50):
            client.put(b"a", b"%d" % number)
        watch.request_progress()
        responses = [watch.receive()]
        while responses[-1].watch_id != -1:
            responses.append(watch.receive())
    last = max(event.kv.mod_revision for response in responses for event in response.events)
    assert responses[-1].header.revision == last


@pytest.mark.since(3, 6, "a progress request does not ask whether its watches are up to date")
def test_a_progress_request_is_not_answered_before_a_future_start(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", start_revision=client.revision() + 100, watch_id=1)
        watch.request_progress()
        watch.cancel(1)
        assert watch.receive().canceled
        watch.create(b"b", watch_id=2)
        watch.request_progress()
        assert watch.receive().watch_id == -1
        client.put(b"b")
        assert watch.receive().watch_id == 2


@pytest.mark.since(3, 6, "a progress request does not ask whether its watches are up to date")
def test_a_progress_request_is_not_answered_beside_a_watch_that_compaction_has_ended(client: Client) -> None:
    with client.watch() as watch:
        watch_that_compaction_ends(client, watch, 5)
        watch.create(b"b", watch_id=6)
        watch.request_progress()
        watch.cancel(5)
        assert watch.receive().canceled
        watch.request_progress()
        assert watch.receive().watch_id == -1
        client.put(b"b")
        assert watch.receive().watch_id == 6


@pytest.mark.since(3, 6, "a progress request is answered whatever watches there are")
def test_a_progress_request_without_watches_is_not_answered(client: Client) -> None:
    with client.watch() as watch:
        watch.request_progress()
        assert watch.create(b"a").created


def test_a_watch_that_asks_for_it_is_told_its_progress_from_time_to_time(client: Client) -> None:
    revision = client.put(b"b").header.revision
    with client.watch() as watch:
        watch.create(b"a", progress_notify=True, watch_id=3)
        answer = watch.receive()
    assert answer == rpc_pb2.WatchResponse(header=answer.header, watch_id=3)
    assert answer.header.revision == revision


def test_a_watch_that_does_not_ask_for_it_is_not_told_its_progress(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", watch_id=1)
        watch.create(b"b", watch_id=2, progress_notify=True)
        assert [watch.receive().watch_id for _ in range(2)] == [2, 2]


def test_progress_follows_writes_to_other_keys(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", progress_notify=True)
        watch.receive()
        revision = client.put(b"b").header.revision
        while (answer := watch.receive()).header.revision < revision:
            assert not answer.events
        assert answer.header.revision == revision


# fragments


def put_large(client: Client, count: int) -> None:
    for number in range(count):
        client.put(b"%d" % number, b"v" * 1_000_000)


def test_a_revision_that_is_too_large_for_a_request_comes_in_fragments(client: Client) -> None:
    put_large(client, 4)
    with client.watch() as watch:
        watch.create(b"0", b"9", prev_kv=True, fragment=True)
        client.delete_range(b"0", b"9")
        fragments = [watch.receive()]
        while fragments[-1].fragment:
            fragments.append(watch.receive())
    assert len(fragments) > 1
    assert [event.kv.key for fragment in fragments for event in fragment.events] == [b"0", b"1", b"2", b"3"]


def test_every_fragment_is_within_the_limit_of_a_request(client: Client) -> None:
    put_large(client, 4)
    with client.watch() as watch:
        watch.create(b"0", b"9", prev_kv=True, fragment=True)
        client.delete_range(b"0", b"9")
        fragments = [watch.receive()]
        while fragments[-1].fragment:
            fragments.append(watch.receive())
    assert max(fragment.ByteSize() for fragment in fragments) < 2 * 1024 * 1024


def test_fragments_carry_the_same_header_and_number(client: Client) -> None:
    put_large(client, 4)
    with client.watch() as watch:
        watch.create(b"0", b"9", prev_kv=True, fragment=True, watch_id=4)
        revision = client.delete_range(b"0", b"9").header.revision
        fragments = [watch.receive()]
        while fragments[-1].fragment:
            fragments.append(watch.receive())
    assert {(fragment.watch_id, fragment.header.revision) for fragment in fragments} == {(4, revision)}


def test_a_small_revision_is_no_fragment(client: Client) -> None:
    with client.watch() as watch:
        watch.create(b"a", fragment=True)
        client.put(b"a")
        assert not watch.receive().fragment


def test_without_fragments_a_large_revision_comes_whole(client: Client) -> None:
    put_large(client, 4)
    with client.watch() as watch:
        watch.create(b"0", b"9", prev_kv=True)
        client.delete_range(b"0", b"9")
        answer = watch.receive()
    assert (len(answer.events), answer.fragment) == (4, False)


# leases


def test_a_revoked_lease_deletes_its_keys_at_one_revision_in_key_order(client: Client) -> None:
    lease = client.lease_grant(600).ID
    for name in (b"c", b"a", b"b"):
        client.put(name, lease=lease)
    with client.watch() as watch:
        watch.create(b"a", b"z")
        revision = client.lease_revoke(lease).header.revision
        answer = watch.receive()
    assert [(event.type, event.kv.key, event.kv.mod_revision) for event in answer.events] == [
        (DELETE, b"a", revision),
        (DELETE, b"b", revision),
        (DELETE, b"c", revision),
    ]


def test_an_expired_lease_deletes_its_keys(client: Client) -> None:
    lease = client.lease_grant(1).ID
    client.put(b"a", b"1", lease=lease)
    with client.watch() as watch:
        watch.create(b"a", prev_kv=True)
        (event,) = watch.events(1)
    assert (event.type, event.kv.key, event.prev_kv.value) == (DELETE, b"a", b"1")


# load


def test_nothing_is_lost_or_repeated_under_many_quick_writes(client: Client) -> None:
    count = 2000
    with client.watch() as watch, client.watch() as late:
        watch.create(b"k", b"l")
        start = client.revision() + 1
        writers = [threading.Thread(target=put_numbers, args=(client, part, count // 4)) for part in range(4)]
        for writer in writers:
            writer.start()
        late.create(b"k", b"l", start_revision=start)
        live, replayed = watch.events(count), late.events(count)
        for writer in writers:
            writer.join()
    expected = list(range(start, start + count))
    assert [event.kv.mod_revision for event in live] == expected
    assert [event.kv.mod_revision for event in replayed] == expected


def put_numbers(client: Client, part: int, count: int) -> None:
    for number in range(count):
        client.put(b"k%d-%d" % (part, number % 10), b"%d" % number)


def test_a_watch_survives_a_reader_that_is_slow(client: Client) -> None:
    with client.watch() as slow:
        slow.create(b"a")
        # far more than a connection buffers
        revisions = [client.put(b"a", b"v" * 100_000).header.revision for _ in range(300)]
        assert [event.kv.mod_revision for event in slow.events(300)] == revisions


def test_a_reader_that_is_slow_does_not_hold_up_others(client: Client) -> None:
    with client.watch() as slow, client.watch() as quick:
        slow.create(b"a")
        quick.create(b"a")
        for _ in range(300):
            revision = client.put(b"a", b"v" * 100_000).header.revision
            assert quick.events(1)[-1].kv.mod_revision == revision


def test_a_long_past_is_replayed_in_order(client: Client) -> None:
    start = client.revision() + 1
    for _ in range(24):
        for number in range(100):
            client.put(b"%02d" % number)
    with client.watch() as watch:
        watch.create(b"0", b"a", start_revision=start)
        assert [event.kv.mod_revision for event in watch.events(2400)] == list(range(start, start + 2400))
