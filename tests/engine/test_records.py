"""What is cut out of stored frames is what protobuf finds in them."""

import random

import pytest

from fetch.api.kv_pb2 import KeyValue
from fetch.engine.records import frame, key_of, key_value, mod_revision_of, numbers_of, value_of, without_value

NUMBERS = [0, 1, 127, 128, 300, 2**14, 2**21 - 1, 2**35, 2**63 - 1]
TEXTS = [b"", b"v", b"\x10\x18\x20\x2a", b"\xff" * 127, b"\x12" * 128, b"*" * 20_000]


def frames(count: int) -> list[tuple[KeyValue, bytes]]:
    choice = random.Random(4)
    made: list[tuple[KeyValue, bytes]] = []
    for _ in range(count):
        key = choice.choice(TEXTS[1:])
        value = choice.choice(TEXTS)
        create, mod, version, lease = (choice.choice(NUMBERS) for _ in range(4))
        stored = frame(key, value, create, mod, version, lease)
        made.append((key_value(stored), stored))
    return made


@pytest.mark.parametrize(("kv", "stored"), frames(60))
def test_what_is_cut_out_is_what_was_put_in(kv: KeyValue, stored: bytes) -> None:
    assert (key_of(stored), value_of(stored)) == (kv.key, kv.value)
    assert numbers_of(stored) == (kv.create_revision, kv.mod_revision, kv.version)
    assert mod_revision_of(stored) == kv.mod_revision


@pytest.mark.parametrize("keep_lease", [False, True])
@pytest.mark.parametrize(("kv", "stored"), frames(30))
def test_a_frame_without_its_value_is_what_protobuf_makes(kv: KeyValue, stored: bytes, keep_lease: bool) -> None:
    lease = kv.lease if keep_lease else 0
    expected = frame(kv.key, b"", kv.create_revision, kv.mod_revision, kv.version, lease)
    assert without_value(stored, keep_lease=keep_lease) == expected
