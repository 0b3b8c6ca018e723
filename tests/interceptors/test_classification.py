"""Which transactions are one operation of the storage engine, and which are not."""

import pytest

from fetch.api.rpc_pb2 import RangeRequest, RequestOp, TxnRequest
from interceptors.classification import classify_range, classify_txn
from tests.endpoints import requests as op

KEY, OTHER = b"/registry/pods/a", b"/registry/pods/b"


def txn(compare: object, success: object, *failure: RequestOp) -> str:
    return classify_txn(TxnRequest(compare=[compare], success=[success], failure=failure))  # type: ignore[list-item]


@pytest.mark.parametrize("failure", [(), (op.get(KEY),)], ids=["no else", "else get"])
def test_a_put_if_there_is_no_such_key_is_a_create(failure: tuple[RequestOp, ...]) -> None:
    assert txn(op.mod_revision(KEY, "=", 0), op.put(KEY, b"x"), *failure) == "create"


@pytest.mark.parametrize("failure", [(), (op.get(KEY),)], ids=["no else", "else get"])
def test_a_put_at_a_revision_is_an_update(failure: tuple[RequestOp, ...]) -> None:
    assert txn(op.mod_revision(KEY, "=", 7), op.put(KEY, b"x", lease=3), *failure) == "update"


@pytest.mark.parametrize("failure", [(), (op.get(KEY),)], ids=["no else", "else get"])
def test_a_delete_at_a_revision_is_a_delete(failure: tuple[RequestOp, ...]) -> None:
    assert txn(op.mod_revision(KEY, "=", 7), op.delete(KEY), *failure) == "delete"


@pytest.mark.parametrize(
    ("compare", "success", "failure"),
    [
        (op.version(KEY, "=", 0), op.put(KEY), ()),
        (op.create_revision(KEY, "=", 0), op.put(KEY), ()),
        (op.value(KEY, "=", b""), op.put(KEY), ()),
        (op.lease(KEY, "=", 0), op.put(KEY), ()),
        (op.mod_revision(KEY, ">", 7), op.put(KEY), ()),
        (op.mod_revision(KEY, "!=", 7), op.put(KEY), ()),
        (op.mod_revision(KEY, "=", -1), op.put(KEY), ()),
        (op.mod_revision(KEY, "=", 7, OTHER), op.put(KEY), ()),
        (op.mod_revision(b"", "=", 0), op.put(b""), ()),
        (op.mod_revision(OTHER, "=", 7), op.put(KEY), ()),
        (op.mod_revision(KEY, "=", 7), op.put(KEY, prev_kv=True), ()),
        (op.mod_revision(KEY, "=", 7), op.put(KEY, ignore_value=True), ()),
        (op.mod_revision(KEY, "=", 7), op.put(KEY, ignore_lease=True), ()),
        (op.mod_revision(KEY, "=", 7), op.delete(OTHER), ()),
        (op.mod_revision(KEY, "=", 7), op.delete(KEY, OTHER), ()),
        (op.mod_revision(KEY, "=", 7), op.delete(KEY, prev_kv=True), ()),
        (op.mod_revision(KEY, "=", 7), op.get(KEY), ()),
        (op.mod_revision(KEY, "=", 7), op.nested(), ()),
        (op.mod_revision(KEY, "=", 7), op.put(KEY), (op.get(OTHER),)),
        (op.mod_revision(KEY, "=", 7), op.put(KEY), (op.get(KEY, OTHER),)),
        (op.mod_revision(KEY, "=", 7), op.put(KEY), (op.get(KEY, revision=7),)),
        (op.mod_revision(KEY, "=", 7), op.put(KEY), (op.get(KEY, keys_only=True),)),
        (op.mod_revision(KEY, "=", 7), op.put(KEY), (op.put(KEY),)),
        (op.mod_revision(KEY, "=", 7), op.put(KEY), (op.get(KEY), op.get(KEY))),
        (op.mod_revision(KEY, "=", 7), RequestOp(), ()),
        (op.mod_revision(KEY, "=", 7), op.put(KEY), (RequestOp(),)),
    ],
)
def test_whatever_differs_from_these_is_a_transaction(
    compare: object, success: object, failure: tuple[RequestOp, ...]
) -> None:
    assert txn(compare, success, *failure) == "txn"


def test_the_compactors_transaction_is_one() -> None:
    # it compares the version, and puts the revision to compact
    compare, key = op.version(b"compact_rev_key", "=", 3), b"compact_rev_key"
    assert txn(compare, op.put(key, b"100"), op.get(key)) == "txn"


@pytest.mark.parametrize(
    "request_",
    [
        TxnRequest(),
        TxnRequest(success=[op.put(KEY)]),
        TxnRequest(compare=[op.mod_revision(KEY, "=", 0)]),
        TxnRequest(compare=[op.mod_revision(KEY, "=", 0)] * 2, success=[op.put(KEY)]),
        TxnRequest(compare=[op.mod_revision(KEY, "=", 0)], success=[op.put(KEY), op.get(KEY)]),
    ],
)
def test_more_or_less_than_one_compare_and_one_operation_is_a_transaction(request_: TxnRequest) -> None:
    assert classify_txn(request_) == "txn"


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (RangeRequest(key=KEY), "get"),
        (RangeRequest(key=KEY, revision=3), "get"),
        (RangeRequest(key=KEY, range_end=OTHER), "list"),
        (RangeRequest(key=KEY, range_end=b"\0", limit=1), "list"),
        (RangeRequest(key=KEY, count_only=True), "count"),
        (RangeRequest(key=KEY, range_end=OTHER, count_only=True), "count"),
    ],
)
def test_a_range_is_a_get_a_list_or_a_count(request_: RangeRequest, kind: str) -> None:
    assert classify_range(request_) == kind
