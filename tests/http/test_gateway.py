"""The JSON gateway: fetch answers as etcd does. Both are asked the same, one after the other, and so go alike."""

import json
import re
from typing import Any

import pytest

from tests.http.web import Answered, Web

OF_EACH = re.compile(rb'"(cluster_id|member_id|raft_term|memberID|leader|raftIndex|raftTerm|raftAppliedIndex)":"\d+"')
"""What names the endpoint itself."""

PLACE = re.compile(r"^proto:[ \u00a0]")
"""Go makes one of two kinds of space by chance, so that nobody relies on its texts."""

OF_THE_CONNECTION = ("date", "connection", "content-length", "transfer-encoding")
"""Headers that tell how a server frames an answer, not what it answers."""


def told(answered: Answered) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body, which is told in the order in which it stands."""
    headers = {name: value for name, value in answered.headers.items() if name not in OF_THE_CONNECTION}
    body = OF_EACH.sub(rb'"\1":"1"', answered.body)
    return answered.status, headers, json.loads(body, object_pairs_hook=_pairs) if body else ""


def _pairs(pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(name, PLACE.sub("proto: ", value) if isinstance(value, str) else value) for name, value in pairs]


class Both:
    """etcd and fetch, which are asked the same."""

    def __init__(self, etcd: Web, fetch: Web) -> None:
        self._etcd, self._fetch = etcd, fetch

    def ask(self, path: str, body: bytes | str | None, method: str = "", **headers: str) -> Answered:
        """What fetch answers, which is what etcd answers."""
        asked = [(name.replace("_", "-"), value) for name, value in headers.items()]
        by_fetch = self._fetch.ask(path, body, method, asked)
        by_etcd = self._etcd.ask(path, body, method, asked)
        assert told(by_fetch) == told(by_etcd)
        if by_fetch.body:
            compact = json.dumps(by_fetch.json, separators=(",", ":"), ensure_ascii=False)
            assert by_fetch.body.decode().removesuffix("\n") == compact
        return by_fetch


@pytest.fixture(scope="module")
def both(etcd_http: Web, fetch_http_alone: Web) -> Both:
    """An etcd, and a tenant of fetch's, on which the same has been done."""
    return Both(etcd_http, fetch_http_alone)


# reading JSON

TEXTS = [
    "",
    "  ",
    "null",
    "[]",
    "123",
    "-",
    '"abc"',
    "tru",
    "}",
    "{",
    '{"key"',
    '{"key":',
    '{"key":"YQ==',
    '{"key":"YQ=="',
    "{key:1}",
    '{"key":"YQ==",}',
    '{"key":"YQ==" "a":1}',
    '{"key" 1}',
    '{"key":"YQ=="} garbage',
    '{"key":"YQ=="}{"key":5}',
    ' \n\t{ "key" : "YQ==" } ',
    '{"key":null}',
    '{"key":"YQ==","foo":{"a":[1,2,{},[],null,true,-1.5e3]}}',
    '{"key":"YQ==","[a.b]":1}',
    '{"key":"YQ==","key":"YQ=="}',
    '{"range_end":"YQ==","rangeEnd":"YQ=="}',
    # bytes
    '{"key":"YQ"}',
    '{"key":"Y Q=="}',
    '{"key":"YQ="}',
    '{"key":"YQ==YQ=="}',
    '{"key":"="}',
    '{"key":"Y"}',
    '{"key":"_-8"}',
    '{"key":"_/8="}',
    r'{"key":"\u0059Q=="}',
    r'{"key":"a\/8="}',
    r'{"key":"YQ\n=="}',
    '{"key":"ä"}',
    '{"key":123}',
    '{"key":{}}',
    '{"key":[]}',
    '{"key":true}',
    # numbers
    '{"key":"YQ==","limit":"1"}',
    '{"key":"YQ==","limit":1e0}',
    '{"key":"YQ==","limit":1.0}',
    '{"key":"YQ==","limit":100e-2}',
    '{"key":"YQ==","limit":"1e0"}',
    '{"key":"YQ==","limit":0e99999}',
    '{"key":"YQ==","limit":-0}',
    '{"key":"YQ==","limit":1.5}',
    '{"key":"YQ==","limit":1e-1}',
    '{"key":"YQ==","limit":1e99}',
    '{"key":"YQ==","limit":"1x"}',
    '{"key":"YQ==","limit":" 1"}',
    '{"key":"YQ==","limit":""}',
    '{"key":"YQ==","limit":"01"}',
    '{"key":"YQ==","limit":"+1"}',
    '{"key":"YQ==","limit":9223372036854775807}',
    '{"key":"YQ==","limit":9223372036854775808}',
    '{"key":"YQ==","limit":-9223372036854775808}',
    '{"key":"YQ==","limit":true}',
    '{"a":01}',
    '{"a":-}',
    '{"a":1.}',
    '{"a":1e}',
    '{"a":1e+}',
    '{"a":.5}',
    '{"a":+1}',
    # enums and booleans
    '{"key":"YQ==","sort_order":"DESCEND"}',
    '{"key":"YQ==","sortOrder":1}',
    '{"key":"YQ==","sort_order":"1"}',
    '{"key":"YQ==","sort_order":"NOPE"}',
    '{"key":"YQ==","sort_order":7}',
    '{"key":"YQ==","sort_order":true}',
    '{"key":"YQ==","sort_order":2147483648}',
    '{"key":"YQ==","serializable":true}',
    '{"key":"YQ==","serializable":"true"}',
    '{"key":"YQ==","serializable":1}',
    # text that is none
    '{"a":tru}',
    '{"a":nul',
    r'{"a":"\x"}',
    r'{"a":"\u00g0"}',
    r'{"a":"\u00',
    '{"k\tey":1}',
    '{"k\x00ey":1}',
    "{'a':1}",
    '{"a":\x01}',
    '{"a":ä}',
    '{\n "key":\n  5}',
    '{"ä":"ä","key":5}',
    # what is wrong first counts, and what is no JSON before it
    '{"key":5,"limit":"x"}',
    '{"key":5,"limit":x}',
    "[1,]",
    '{"a":[1 2]}',
    '{"a":' * 10_000 + "1" + "}" * 10_000,
    '{"a":' * 9999 + "1" + "}" * 9999,
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:60])
def test_a_text_is_read_as_by_etcd(both: Both, text: str) -> None:
    both.ask("/v3/kv/range", text)


def test_a_text_that_is_not_utf_8_is_refused_as_by_etcd(both: Both) -> None:
    both.ask("/v3/kv/range", b'{"key":"\xff"}')
    both.ask("/v3/kv/range", b'{"key":"YQ==","x":"\xff"}')
    both.ask("/v3/kv/range", b'{"key":"YQ=="} \xff')


TRANSACTIONS = [
    '{"compare":{}}',
    '{"compare":[null]}',
    '{"compare":[1]}',
    '{"compare":"a"}',
    '{"compare":null}',
    '{"compare":[[]]}',
    '{"success":[{"requestRange":{"key":"YQ=="},"requestPut":{"key":"YQ=="}}]}',
    '{"success":[{"requestRange":null,"requestPut":{"key":"YQ=="}}]}',
    '{"success":[{"requestRange":5}]}',
    '{"success":[{}]}',
    '{"compare":[{"key":"YQ==","target":"VERSION","version":"0","result":"EQUAL"}],"failure":[{"request_range":{"key":"YQ=="}}]}',
    '{"compare":[{"key":"YQ==","target":"VALUE","value":"","result":"GREATER"}],"success":[{"request_delete_range":{"key":"YQ==","prev_kv":true}}]}',
    '{"compare":[{"key":"YQ==","version":"0","value":""}]}',
    '{"success":[{"request_txn":{"success":[{"request_put":{"key":"Yg==","value":"PD4m"}},{"request_range":{"key":"Yg=="}}]}}]}',
]


@pytest.mark.parametrize("text", TRANSACTIONS, ids=lambda text: text[:60])
def test_a_transaction_is_read_as_by_etcd(both: Both, text: str) -> None:
    both.ask("/v3/kv/txn", text)


# methods

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("/v3/kv/put", {"key": "YQ==", "value": "Yg=="}),
    ("/v3/kv/put", {"key": "YQ==", "value": "Yw==", "prev_kv": True}),
    ("/v3/kv/put", {"key": "YQ==", "lease": "12345"}),
    ("/v3/kv/put", {}),
    ("/v3/kv/range", {"key": "AA==", "range_end": "AA=="}),
    ("/v3/kv/range", {"key": "AA==", "range_end": "AA==", "keys_only": True, "limit": 1}),
    ("/v3/kv/range", {"key": "AA==", "range_end": "AA==", "count_only": True}),
    ("/v3/kv/range", {"key": "YQ==", "revision": "99999"}),
    ("/v3beta/kv/range", {"key": "YQ=="}),
    ("/v3/kv/deleterange", {"key": "YQ==", "prev_kv": True}),
    ("/v3/kv/deleterange", {"key": "YQ=="}),
    ("/v3/kv/compaction", {"revision": "99999"}),
    ("/v3/kv/compaction", {"revision": "2"}),
    ("/v3/kv/range", {"key": "YQ==", "revision": "1"}),
    ("/v3/lease/grant", {"ID": "77", "TTL": "60"}),
    ("/v3/lease/grant", {"ID": "77", "TTL": "60"}),
    ("/v3/lease/grant", {"TTL": "99999999999"}),
    ("/v3/kv/put", {"key": "bA==", "lease": "77"}),
    ("/v3/lease/timetolive", {"ID": "78"}),
    ("/v3/kv/lease/timetolive", {"ID": "78"}),
    ("/v3/lease/leases", {}),
    ("/v3/kv/lease/leases", {}),
    ("/v3/lease/keepalive", {"ID": "77"}),
    ("/v3/lease/keepalive", {"ID": "78"}),
    ("/v3/lease/keepalive", {}),
    ("/v3/kv/lease/revoke", {"ID": "78"}),
    ("/v3/lease/revoke", {"ID": "77"}),
    ("/v3/maintenance/alarm", {"action": "GET"}),
    ("/v3/maintenance/defragment", {}),
    ("/v3/maintenance/hashkv", {}),
    ("/v3/auth/status", {}),
    ("/v3/auth/authenticate", {"name": "a", "password": "b"}),
    ("/v3/auth/user/list", {}),
    ("/v3/auth/role/list", {}),
    ("/v3/auth/role/get", {"role": "r"}),
    ("/v3/election/leader", {"name": "ZQ=="}),
    ("/v3/election/resign", {}),
    ("/v3/election/proclaim", {}),
]


@pytest.mark.parametrize(("path", "fields"), CALLS, ids=[f"{path} {fields}" for path, fields in CALLS])
def test_a_call_is_answered_as_by_etcd(both: Both, path: str, fields: dict[str, Any]) -> None:
    both.ask(path, json.dumps(fields))


@pytest.mark.parametrize(
    "path", ["/v3/", "/v3/nope", "/v3/kv", "/v3/kv/range/", "/v3/kv/range:x", "/v3/kv%2Frange", "/v3alpha/kv/range"]
)
def test_a_path_is_found_or_not_as_in_etcd(both: Both, path: str) -> None:
    answered = (both._fetch.ask(path, "{}"), both._etcd.ask(path, "{}"))
    assert answered[0].status == answered[1].status
    assert answered[0].body == answered[1].body


def test_the_place_of_the_gateway_itself_is_redirected_to(both: Both) -> None:
    both.ask("/v3", "{}")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "BREW"])
def test_methods_are_posted_to(both: Both, method: str) -> None:
    both.ask("/v3/kv/range", None, method)
    both.ask("/v3/watch", None, method)


def test_pages_of_other_origins_may_ask_before_they_ask(both: Both) -> None:
    both.ask("/v3/kv/range", None, "OPTIONS", Origin="https://elsewhere.example")


# headers


@pytest.mark.parametrize("timeout", ["abc", "1", "1x", "S", "1n", "-1S", "0S", "10S", "1.5S"])
def test_a_deadline_is_kept_as_by_etcd(both: Both, timeout: str) -> None:
    both.ask("/v3/kv/range", '{"key":"YQ=="}', Grpc_Timeout=timeout)


def test_binary_metadata_is_base64(both: Both) -> None:
    both.ask("/v3/kv/range", '{"key":"YQ=="}', Grpc_Metadata_A_Bin="YWJj")
    answered = both._fetch.ask("/v3/kv/range", '{"key":"YQ=="}', headers=[("Grpc-Metadata-A-Bin", "!!")])
    assert (answered.status, answered.json["message"]) == (
        400,
        "invalid binary header Grpc-Metadata-A-Bin: illegal base64 data",
    )


# sizes


@pytest.mark.parametrize("size", [1_500_000, 1_600_000])
def test_a_value_may_be_as_large_as_in_etcd(both: Both, size: int) -> None:
    both.ask("/v3/kv/put", json.dumps({"key": "YQ==", "value": "AAAA" * (size // 3)}))


def test_what_is_too_large_for_grpc_is_refused_in_its_words(both: Both) -> None:
    for asked in (both._etcd, both._fetch):
        answered = asked.ask("/v3/kv/put", json.dumps({"key": "YQ==", "value": "AAAA" * 2_000_000}))
        assert answered.status == 429
        assert re.fullmatch(r"grpc: received message larger than max \(\d+ vs\. \d+\)", answered.json["message"])
        assert answered.json["code"] == 8
