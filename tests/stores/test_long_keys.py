"""Keys longer than LMDB's own: stored and walked as a dictionary would, and at a cost that does not depend on others."""

import struct
from collections.abc import Iterator

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetch.stores.embedded import longkeys

OWN = b"\x01"
"""Behind it lie the rows; before it, what the store keeps for itself."""

# pieces as long as a record has room for, one byte less and more, and those that sort first and last
PIECES = [
    b"a" * 490,
    b"a" * 489 + b"b",
    b"a" * 499,
    b"b" * 500,
    b"a",
    b"\x00",
    b"\xff",
    b"\x00" * 490,
    b"\xff" * 491,
    b"",
]

keys = st.lists(st.sampled_from(PIECES), max_size=4).map(lambda pieces: b"\x02" + b"".join(pieces))
puts = st.tuples(st.just("put"), keys, st.binary(max_size=3))
deletes = st.tuples(st.just("delete"), keys, st.just(b""))
clears = st.tuples(st.just("clear"), keys, keys)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lmdb.Environment]:
    with lmdb.open(str(tmp_path_factory.mktemp("long")), map_size=1 << 30, sync=False) as opened:
        yield opened


@pytest.fixture
def writer(environment: lmdb.Environment) -> Iterator[lmdb.Transaction]:
    """An empty database, which is forgotten afterwards."""
    transaction = environment.begin(write=True)
    yield transaction
    transaction.abort()


def records(writer: lmdb.Transaction) -> int:
    return int(writer.stat()["entries"])


@settings(deadline=None)
@given(steps=st.lists(puts | deletes | clears, max_size=30), bounds=st.lists(st.tuples(keys, keys), max_size=4))
def test_rows_are_those_of_a_dictionary(
    environment: lmdb.Environment, steps: list[tuple[str, bytes, bytes]], bounds: list[tuple[bytes, bytes]]
) -> None:
    expected: dict[bytes, bytes] = {}
    with environment.begin(write=True) as writer:
        for what, key, other in steps:
            if what == "put":
                longkeys.put(writer, key, other)
                expected[key] = other
            elif what == "delete":
                longkeys.delete(writer, key)
                expected.pop(key, None)
            else:
                longkeys.clear_range(writer, key, other)
                expected = {held: value for held, value in expected.items() if not key <= held < other}
        of_steps = [span for _, key, _ in steps for span in ((OWN, key), (key, b"\xff"), (key, key + b"\x00"))]
        for begin, end in [(OWN, b"\xff"), *bounds, *of_steps]:
            rows = sorted((key, value) for key, value in expected.items() if begin <= key < end)
            assert list(longkeys.rows(writer, begin, end)) == rows
            assert longkeys.count(writer, begin, end, len(rows) + 1) == (len(rows), end)
            for limit in range(1, len(rows)):
                assert longkeys.count(writer, begin, end, limit) == (limit, rows[limit][0])
        assert all(longkeys.get(writer, key) == expected.get(key) for _, key, _ in steps)
        writer.abort()


@settings(deadline=None)
@given(held=st.sets(keys))
def test_nothing_is_left_of_keys_that_are_gone(environment: lmdb.Environment, held: set[bytes]) -> None:
    with environment.begin(write=True) as writer:
        before = records(writer)
        for key in held:
            longkeys.put(writer, key, b"value")
        for key in held:
            longkeys.delete(writer, key)
        assert records(writer) - before <= 1  # the number of the last space
        writer.abort()


@pytest.mark.parametrize("length", [501, 990, 991, 20_000])
def test_a_long_key_takes_a_record_for_each_piece_and_shares_those_of_its_prefixes(
    writer: lmdb.Transaction, length: int
) -> None:
    prefix = b"\x02" * length
    longkeys.put(writer, prefix + b"first", b"")
    before = records(writer)
    for number in range(100):
        longkeys.put(writer, prefix + b"%04d" % number, b"")
    assert records(writer) - before == 100


def test_a_put_writes_as_much_among_thousands_of_keys_with_its_prefix_as_among_none(writer: lmdb.Transaction) -> None:
    prefix = b"\x02" * 600
    for number in range(5000):
        longkeys.put(writer, prefix + b"%05d" % number, b"v" * 100)
    largest = max(len(value) for _, value in writer.cursor())
    assert largest == 100


def test_a_key_as_long_as_a_request_is_a_key(writer: lmdb.Transaction) -> None:
    key = b"\x02" + b"k" * (3 << 20)
    longkeys.put(writer, key, b"value")
    assert longkeys.get(writer, key) == b"value"
    assert list(longkeys.rows(writer, key, key + b"\x00")) == [(key, b"value")]
    longkeys.delete(writer, key)
    assert longkeys.get(writer, key) is None


def bucket(rows: list[tuple[bytes, bytes]]) -> bytes:
    """Long keys as the format "fetch 1" had them."""
    return b"".join(struct.pack(">II", len(rest), len(value)) + rest + value for rest, value in rows)


def test_what_lay_in_buckets_lies_in_spaces_afterwards(writer: lmdb.Transaction) -> None:
    heads = [b"\x02" * 500, b"\x03" * 500]
    rests = [(b"a", b"1"), (b"b" * 2000, b"2"), (b"c", b"")]
    for head in heads:
        writer.put(head + b"\x00", bucket(rests))
    writer.put(b"\x02short", b"value")
    assert longkeys.replace_buckets(writer) == 2
    long_rows = [(head + rest, value) for head in heads for rest, value in rests]
    assert list(longkeys.rows(writer, OWN, b"\xff")) == sorted([*long_rows, (b"\x02short", b"value")])
