"""Files that are written are read again as they were; what is broken is refused."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from fetch.snapshots.bolt import PAGE_BYTES
from fetch.snapshots.reader import BrokenFileError, FileReader, Row
from fetch.snapshots.writer import FileWriter
from tests.snapshots.etcds import find_etcdutl, run

HASH_BYTES = 32


def written(path: Path, **buckets: Sequence[Row]) -> Path:
    """A file with these buckets, with its hash."""
    file = FileWriter()
    for name, rows in buckets.items():
        tree = file.bucket()
        for row in rows:
            tree.add(*row)
        file.close(name.encode(), tree)
    beginning = file.finish()
    return hashed(path, beginning + b"".join(file.take()))


def hashed(path: Path, content: bytes) -> Path:
    path.write_bytes(content + hashlib.sha256(content).digest())
    return path


def rows(count: int, value_bytes: int = 10) -> list[Row]:
    return [(b"%08d" % number, b"v" * value_bytes) for number in range(count)]


def read(path: Path, bucket: str = "a") -> list[Row]:
    with FileReader(path) as file:
        return list(file.rows(bucket.encode()))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param([], id="empty"),
        pytest.param(rows(1), id="one row"),
        pytest.param(rows(25), id="about what lies in the root"),
        pytest.param(rows(200), id="a few leaves"),
        pytest.param(rows(60_000), id="two levels of branches"),
        pytest.param(rows(3, 1_500_000), id="values larger than a page"),
        pytest.param(rows(10, 0), id="empty values"),
        pytest.param([(b"k" * 5000 + b"%04d" % number, b"") for number in range(100)], id="keys larger than a page"),
    ],
)
def test_rows_are_read_as_they_were_written(tmp_path: Path, content: list[Row]) -> None:
    assert read(written(tmp_path / "file", a=content)) == content


def test_buckets_are_kept_apart(tmp_path: Path) -> None:
    path = written(tmp_path / "file", b=rows(5), a=rows(1000), c=[])
    with FileReader(path) as file:
        assert [(name, len(list(file.rows(name)))) for name in file.buckets()] == [(b"a", 1000), (b"b", 5), (b"c", 0)]


def test_a_bucket_that_is_not_there_has_no_rows(tmp_path: Path) -> None:
    assert read(written(tmp_path / "file", a=rows(5)), "b") == []


def test_bbolt_finds_all_pages_in_their_places(tmp_path: Path) -> None:
    etcdutl = find_etcdutl() or pytest.skip("there is no etcdutl: `make peers` builds it where Go is")
    path = written(tmp_path / "file", a=rows(60_000), b=rows(5), c=[], d=rows(3, 1_500_000), meta=rows(1))
    run(etcdutl, "snapshot", "status", str(path))


# what is refused


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    """A file of four leaves, without its hash."""
    return written(tmp_path / "whole", a=rows(400)).read_bytes()[:-HASH_BYTES]


def test_a_file_of_another_hash_is_refused(tmp_path: Path, content: bytes) -> None:
    path = hashed(tmp_path / "file", content)
    path.write_bytes(path.read_bytes().replace(b"v", b"w", 1))
    with pytest.raises(BrokenFileError, match="hash"):
        FileReader(path)


def test_a_file_without_a_hash_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(BrokenFileError, match="hash"):
        FileReader(tmp_path / "file")


def test_a_file_without_a_hash_is_read_if_it_need_not_have_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with FileReader(tmp_path / "file", hashed=False) as file:
        assert list(file.rows(b"a")) == rows(400)


@pytest.mark.parametrize("length", [0, 32, 512 + 32, PAGE_BYTES, 3 * PAGE_BYTES])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, content: bytes, length: int) -> None:
    with pytest.raises(BrokenFileError):
        FileReader(hashed(tmp_path / "file", content[:length]))


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenFileError, match="no file of bbolt's"):
        FileReader(hashed(tmp_path / "file", b"SQLite format 3\x00" * 1024))


def test_with_one_meta_page_broken_the_other_counts(tmp_path: Path, content: bytes) -> None:
    path = hashed(tmp_path / "file", content[:20] + b"?" * 8 + content[28:])
    assert read(path) == rows(400)


def test_with_both_meta_pages_broken_a_file_is_refused(tmp_path: Path, content: bytes) -> None:
    pages = bytearray(content)
    pages[20] ^= 1
    pages[PAGE_BYTES + 20] ^= 1
    with pytest.raises(BrokenFileError, match="no meta page"):
        FileReader(hashed(tmp_path / "file", bytes(pages)))


@pytest.mark.parametrize("byte", [*range(16), 16, 20, 24, 28])
def test_a_leaf_whose_header_or_table_is_broken_is_refused(tmp_path: Path, content: bytes, byte: int) -> None:
    pages = bytearray(content)
    pages[2 * PAGE_BYTES + byte] ^= 0xC1
    path = hashed(tmp_path / "file", bytes(pages))
    try:
        found = read(path)
    except BrokenFileError:
        return
    # flags that have no meaning, and sizes that stay within the page, cannot be told from what is right
    assert len(found) == 400


def test_pages_that_lead_back_to_themselves_are_refused(tmp_path: Path, content: bytes) -> None:
    pages = bytearray(content)
    for at in range(2 * PAGE_BYTES, len(pages), PAGE_BYTES):
        if pages[at + 8] == 1:  # a branch: its first element is made to be itself
            pages[at + 24 : at + 32] = pages[at : at + 8]
    with pytest.raises(BrokenFileError):
        read(hashed(tmp_path / "file", bytes(pages)))
