"""Keys longer than LMDB's 511 bytes.

Keys of up to `INLINE` bytes are LMDB keys as they are. All longer keys with the same first `INLINE` bytes share one
LMDB record, a bucket: its key is those bytes and a zero byte, its value a sorted list of (rest of the key, value).
That keeps the order: a bucket sorts right after the key that is its prefix and before every other short key, as all
keys within it do. Kubernetes' keys are short; a bucket is rare and small.
"""

import struct
from collections.abc import Iterator

from fetch.stores.protocol import Row

INLINE = 500
_LENGTHS = struct.Struct(">II")


def record_key(key: bytes) -> bytes:
    """The key of the LMDB record that holds `key`: the key itself, or its bucket's."""
    return key if len(key) <= INLINE else key[:INLINE] + b"\x00"


def is_bucket(record: bytes) -> bool:
    """Whether an LMDB key is that of a bucket."""
    return len(record) > INLINE


def rows_of(record: bytes, bucket: bytes) -> Iterator[Row]:
    """The (key, value) rows of a bucket, in order."""
    prefix, position = record[:INLINE], 0
    while position < len(bucket):
        suffix_length, value_length = _LENGTHS.unpack_from(bucket, position)
        suffix_at = position + _LENGTHS.size
        value_at = suffix_at + suffix_length
        position = value_at + value_length
        yield prefix + bucket[suffix_at:value_at], bucket[value_at:position]


def find(key: bytes, bucket: bytes | None) -> bytes | None:
    """The value of a long key in its bucket."""
    if bucket is None:
        return None
    return dict(rows_of(record_key(key), bucket)).get(key)


def replace(key: bytes, value: bytes | None, bucket: bytes | None) -> bytes:
    """The bucket with the key set to the value, or removed; empty when nothing is left."""
    rows = dict(rows_of(record_key(key), bucket)) if bucket else {}
    if value is None:
        rows.pop(key, None)
    else:
        rows[key] = value
    return b"".join(_LENGTHS.pack(len(key) - INLINE, len(rows[key])) + key[INLINE:] + rows[key] for key in sorted(rows))
