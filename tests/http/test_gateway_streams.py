"""Streams over the gateway: watches, keepalives, snapshots, elections; as in etcd where both are asked."""

import base64
import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.http.web import FetchWeb, Web


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Conversation:
    """A method both of whose sides stream, on a connection of HTTP/1.1, where Go's servers cannot."""

    def __init__(self, connection: http.client.HTTPConnection, path: str) -> None:
        connection.putrequest("POST", path)
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        self._connection = connection
        self._socket = connection.sock  # which http.client lets go of when it is to be the connection's last answer
        self._answer: http.client.HTTPResponse | None = None

    def say(self, text: str) -> None:
        data = text.encode()
        self._socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self) -> None:
        self._socket.sendall(b"0\r\n\r\n")

    def hear(self) -> Any:
        """The next line, as JSON."""
        if self._answer is None:
            self._answer = self._connection.getresponse()
        return json.loads(self._answer.readline())


@contextmanager
def conversation(web: Web, path: str) -> Iterator[Conversation]:
    connection = web.connect()
    try:
        yield Conversation(connection, path)
    finally:
        connection.close()


def test_a_watch_tells_what_happens(web: Web) -> None:
    with web.stream("/v3/watch", json.dumps({"create_request": {"key": encoded("w1")}})) as answers:
        created = next(answers)["result"]
        assert created["created"] is True
        web.post("/v3/kv/put", key=encoded("w1"), value=encoded("<v>"))
        (event,) = next(answers)["result"]["events"]
        assert (event["kv"]["key"], event["kv"]["value"]) == (encoded("w1"), encoded("<v>"))
        assert "type" not in event  # PUT is zero
        web.post("/v3/kv/deleterange", key=encoded("w1"))
        (event,) = next(answers)["result"]["events"]
        assert event["type"] == "DELETE"


def test_both_sides_of_a_watch_stream(fetch_tenant: Web) -> None:
    web = fetch_tenant
    with conversation(web, "/v3/watch") as watch:
        watch.say(json.dumps({"create_request": {"key": encoded("w2"), "watch_id": "5"}}))
        assert watch.hear()["result"]["watch_id"] == "5"
        watch.say('{"create_request":{"key":"' + encoded("w3"))  # in two parts
        watch.say('","watch_id":6}}\n {"cancel_request":{"watch_id":5}}')
        assert watch.hear()["result"]["watch_id"] == "6"
        cancelled = watch.hear()["result"]
        assert (cancelled["watch_id"], cancelled["canceled"]) == ("5", True)
        web.post("/v3/kv/put", key=encoded("w3"))
        assert watch.hear()["result"]["events"][0]["kv"]["key"] == encoded("w3")


def test_a_client_that_has_said_all_goes_on_hearing(web: Web) -> None:
    with conversation(web, "/v3/watch") as watch:
        watch.say(json.dumps({"create_request": {"key": encoded("w4")}}))
        watch.end()
        watch.hear()
        web.post("/v3/kv/put", key=encoded("w4"))
        assert watch.hear()["result"]["events"][0]["kv"]["key"] == encoded("w4")


def test_a_watch_that_cannot_be_is_cancelled_with_the_reason(web: Web) -> None:
    asked = json.dumps({"create_request": {"key": encoded("b"), "range_end": encoded("a")}})
    with web.stream("/v3/watch", asked) as answers:
        assert next(answers)["result"]["cancel_reason"] == "mvcc: watcher range is empty"


def test_leases_are_kept_alive_one_after_the_other(fetch_tenant: Web) -> None:
    web = fetch_tenant
    web.post("/v3/lease/grant", ID=9001, TTL=60)
    with conversation(web, "/v3/lease/keepalive") as keeping:
        for lease, ttl in (("9001", "60"), ("9002", None), ("9001", "60")):
            keeping.say(json.dumps({"ID": lease}))
            renewed = keeping.hear()["result"]
            assert (renewed["ID"], renewed.get("TTL")) == (lease, ttl)
    web.post("/v3/lease/revoke", ID=9001)


def test_a_snapshot_is_the_same_file(web: Web) -> None:
    web.post("/v3/kv/put", key=encoded("snapped"))
    with web.stream("/v3/maintenance/snapshot", "{}") as answers:
        parts = [answer["result"] for answer in answers]
    file = b"".join(base64.b64decode(part.get("blob", "")) for part in parts)
    assert file[16:20] == b"\xed\xda\x0c\xed"  # bbolt's
    assert b"snapped" in file


def test_an_election_is_observed(web: Web) -> None:
    web.post("/v3/lease/grant", ID=9003, TTL=60)
    leader = web.post("/v3/election/campaign", name=encoded("e"), lease=9003, value=encoded("me"))["leader"]
    with web.stream("/v3/election/observe", json.dumps({"name": encoded("e")})) as answers:
        assert next(answers)["result"]["kv"]["value"] == encoded("me")
    web.post("/v3/election/resign", leader=leader)
    web.post("/v3/lease/revoke", ID=9003)


def test_a_lock_is_waited_for(web: Web) -> None:
    web.post("/v3/lease/grant", ID=9004, TTL=60)
    held = web.post("/v3/lock/lock", name=encoded("l"), lease=9004)["key"]
    waiting = web.connect()
    waiting.request("POST", "/v3/lock/lock", json.dumps({"name": encoded("l"), "lease": 9004}))
    web.post("/v3/lock/unlock", key=held)
    assert "key" in json.loads(waiting.getresponse().read())
    waiting.close()
    web.post("/v3/lease/revoke", ID=9004)


def test_a_stream_that_has_not_begun_is_refused_as_a_call_is(web: Web) -> None:
    answered = web.ask("/v3/watch", "", headers=[("Grpc-Timeout", "1n")])
    assert (answered.status, answered.body) == (504, b'{"code":4,"message":"context deadline exceeded"}')


def test_a_stream_ends_at_its_deadline(fetch_tenant: Web) -> None:
    asked = json.dumps({"create_request": {"key": encoded("w5")}})
    answered = fetch_tenant.ask("/v3/watch", asked, headers=[("Grpc-Timeout", "300m")])
    *_, last = answered.body.splitlines()
    assert (answered.status, json.loads(last)) == (200, {"error": {"code": 4, "message": "context deadline exceeded"}})


@pytest.mark.parametrize("text", ["nonsense", '{"create_request":', '{"create_request":{"key":5}}', "[]"])
def test_a_stream_that_is_not_json_ends_with_the_reason(fetch_tenant: Web, text: str) -> None:
    """etcd waits for ever, since it has not heard of a watch."""
    answered = fetch_tenant.ask("/v3/watch", text)
    assert (answered.status, answered.json["error"]["code"]) == (400, 3)
    assert answered.json["error"]["message"].startswith("Failed to decode request: ")


def test_a_client_that_goes_is_no_watcher_any_more(fetch_http: FetchWeb) -> None:
    tenant = fetch_http.server.endpoint.new_tenant()
    web = fetch_http.as_tenant(tenant)

    def watchers() -> int:
        text = Web(fetch_http.metrics_url).ask("/metrics").body.decode()
        name = f'fetch_watchers{{tenant="{tenant}"}} '
        return next((int(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name)), 0)

    with web.stream("/v3/watch", json.dumps({"create_request": {"key": encoded("w6")}})) as answers:
        next(answers)
        assert watchers() == 1
    while watchers():
        pass


def test_streams_end_when_the_daemon_stops(fetch_http_to_stop: FetchWeb) -> None:
    web = fetch_http_to_stop.new_tenant()
    with web.stream("/v3/watch", json.dumps({"create_request": {"key": encoded("w")}})) as answers:
        next(answers)
        fetch_http_to_stop.server.process.stop()
        assert next(answers) == {"error": {"code": 14, "message": "etcdserver: server stopped"}}
