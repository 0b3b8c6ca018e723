"""Clients of one tenant: they do what kube-apiserver and etcdctl do, on few keys, and note what they are told."""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import grpc

from fetch.api.rpc_pb2 import (
    CompactionRequest,
    CompactionResponse,
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    RequestOp,
    TxnRequest,
    TxnResponse,
    WatchCreateRequest,
    WatchRequest,
    WatchResponse,
)
from tests.simulation.daemon import CallError, Daemon, Stream
from tests.simulation.history import History, Read, Watched, Write

KV, WATCH, LEASE = "/etcdserverpb.KV/", "/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/"
KEYS = [b"/k/" + letter.encode() for letter in "abcdefgh"]
SPANS = [(b"/k/", b"/k0"), (b"/k/a", b"/k/d"), (b"/k/c", b"/k/c\x00"), (b"/k/e", b"/l/"), (b"/", b"0")]
LEASED = b"/l/"
TTL = 5

_DEFINITE = frozenset((grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND))


@dataclass(slots=True)
class Leased:
    """A key that lives as long as its lease: until when it must be there at least, by what clients were told."""

    key: bytes
    lease: int
    until: float


@dataclass(slots=True, eq=False)
class Tenant:
    """What the clients of one tenant share."""

    name: str
    chance: random.Random
    daemons: Callable[[], list[Daemon]]
    history: History = field(default_factory=History)
    leased: list[Leased] = field(default_factory=list)
    newest: int = 1
    known: dict[bytes, int] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    loyal: float = 0.0
    """How often clients take the daemon that has been there for longest, rather than any."""

    def daemon(self) -> Daemon:
        """One that a client would connect to."""
        daemons = self.daemons()
        return daemons[0] if self.chance.random() < self.loyal else self.chance.choice(daemons)

    def new_value(self) -> bytes:
        """A value that nobody has written."""
        return b"%s %d" % (self.name.encode(), next(self.numbers))


def now() -> float:
    return asyncio.get_running_loop().time()


async def work(tenant: Tenant, seconds: float) -> None:
    """Reads and writes for so long."""
    chance = tenant.chance
    deeds = [create, create, update, update, update, delete, put, put_many, delete_range, get, get, list_, list_, lease]
    ends = now() + seconds
    while now() < ends:
        deed = chance.choice(deeds) if chance.random() > 0.01 else compact
        try:
            await deed(tenant)
        except CallError as error:
            _expect_no_defect(error)
        await asyncio.sleep(chance.uniform(0, 0.02))


def _expect_no_defect(error: CallError) -> None:
    if error.code is grpc.StatusCode.INTERNAL:
        raise AssertionError from error


async def write(
    tenant: Tenant,
    changes: Mapping[bytes, bytes | None],
    request: TxnRequest,
    condition: tuple[bytes, int] | None = None,
) -> None:
    began = now()
    noted = Write(began, began, changes, condition)
    tenant.history.writes.append(noted)
    try:
        answer = await tenant.daemon().call(tenant.name, KV + "Txn", request, TxnResponse)
    except CallError as error:
        if error.code in _DEFINITE:
            noted.succeeded, noted.revision = False, 1 << 62
        raise
    finally:
        noted.ended = now()
    noted.revision = answer.header.revision
    noted.succeeded = answer.succeeded
    tenant.newest = max(tenant.newest, answer.header.revision)
    for key in changes:
        tenant.known[key] = answer.header.revision if answer.succeeded else 0
    for operation in answer.responses:
        for kv in operation.response_range.kvs:
            tenant.known[kv.key] = kv.mod_revision


def kube(key: bytes, revision: int, operation: RequestOp) -> TxnRequest:
    """A transaction as kube-apiserver makes it."""
    return TxnRequest(
        compare=[Compare(target=Compare.MOD, key=key, mod_revision=revision)],
        success=[operation],
        failure=[RequestOp(request_range=RangeRequest(key=key))],
    )


async def create(tenant: Tenant) -> None:
    key, value = tenant.chance.choice(KEYS), tenant.new_value()
    request = kube(key, 0, RequestOp(request_put=PutRequest(key=key, value=value)))
    await write(tenant, {key: value}, request, (key, 0))


async def update(tenant: Tenant) -> None:
    key, value = tenant.chance.choice(KEYS), tenant.new_value()
    revision = tenant.known.get(key, 0)
    request = kube(key, revision, RequestOp(request_put=PutRequest(key=key, value=value)))
    await write(tenant, {key: value}, request, (key, revision))


async def delete(tenant: Tenant) -> None:
    key = tenant.chance.choice(KEYS)
    revision = tenant.known.get(key, 0)
    if revision:
        request = kube(key, revision, RequestOp(request_delete_range=DeleteRangeRequest(key=key)))
        await write(tenant, {key: None}, request, (key, revision))


async def put_many(tenant: Tenant) -> None:
    changes: dict[bytes, bytes | None] = {
        key: tenant.new_value() for key in tenant.chance.sample(KEYS, tenant.chance.randint(1, 5))
    }
    puts = [RequestOp(request_put=PutRequest(key=key, value=value or b"")) for key, value in changes.items()]
    await write(tenant, changes, TxnRequest(success=puts))


async def put(tenant: Tenant) -> None:
    key, value = tenant.chance.choice(KEYS), tenant.new_value()
    began = now()
    noted = Write(began, began, {key: value})
    tenant.history.writes.append(noted)
    try:
        answer = await tenant.daemon().call(tenant.name, KV + "Put", PutRequest(key=key, value=value), PutResponse)
    finally:
        noted.ended = now()
    noted.succeeded, noted.revision = True, answer.header.revision
    tenant.known[key] = answer.header.revision


async def delete_range(tenant: Tenant) -> None:
    begin, end = tenant.chance.choice(SPANS[1:4])
    request = DeleteRangeRequest(key=begin, range_end=end)
    await tenant.daemon().call(tenant.name, KV + "DeleteRange", request, DeleteRangeResponse)


async def compact(tenant: Tenant) -> None:
    revision = tenant.newest - tenant.chance.randint(0, 30)
    if revision > tenant.history.compacted:
        tenant.history.compacted = revision
        await tenant.daemon().call(
            tenant.name, KV + "Compact", CompactionRequest(revision=revision), CompactionResponse
        )


async def get(tenant: Tenant) -> None:
    key = tenant.chance.choice(KEYS)
    await read(tenant, RangeRequest(key=key), key + b"\x00")


async def list_(tenant: Tenant) -> None:
    chance = tenant.chance
    begin, end = chance.choice(SPANS)
    revision = tenant.newest - chance.randint(0, 20) if chance.random() < 0.4 else 0
    request = RangeRequest(key=begin, range_end=end, limit=chance.choice((0, 0, 1, 2, 3)), revision=max(revision, 0))
    await read(tenant, request, end)


async def read(tenant: Tenant, request: RangeRequest, end: bytes) -> None:
    began = now()
    answer = await tenant.daemon().call(tenant.name, KV + "Range", request, RangeResponse)
    noted = Read(
        began,
        now(),
        request.key,
        end,
        request.revision,
        answer.header.revision,
        request.limit,
        list(answer.kvs),
        answer.count,
        answer.more,
    )
    tenant.history.reads.append(noted)
    tenant.newest = max(tenant.newest, answer.header.revision)
    for kv in answer.kvs:
        if not request.revision:
            tenant.known[kv.key] = kv.mod_revision


async def lease(tenant: Tenant) -> None:
    """Keeps a key alive for a while, then lets it go."""
    began = now()
    answer = await tenant.daemon().call(
        tenant.name, LEASE + "LeaseGrant", LeaseGrantRequest(TTL=TTL), LeaseGrantResponse
    )
    key = LEASED + b"%d" % next(tenant.numbers)
    noted = Leased(key, answer.ID, began + TTL)
    tenant.leased.append(noted)
    request = PutRequest(key=key, value=tenant.new_value(), lease=answer.ID)
    written = Write(now(), now(), {key: request.value})
    tenant.history.writes.append(written)
    try:
        put = await tenant.daemon().call(tenant.name, KV + "Put", request, PutResponse)
        written.succeeded, written.revision = True, put.header.revision
    finally:
        written.ended = now()
    for _ in range(tenant.chance.randint(0, 2)):
        await asyncio.sleep(tenant.chance.uniform(0.1, TTL / 2))
        began = now()
        method = LEASE + "LeaseKeepAlive"
        async with tenant.daemon().stream(tenant.name, method, LeaseKeepAliveResponse) as stream:
            stream.send(LeaseKeepAliveRequest(ID=answer.ID))
            if (await stream.receive()).TTL > 0:
                noted.until = max(noted.until, began + TTL)


async def watch(tenant: Tenant, watches: list[Watched]) -> None:
    """Watches several ranges on one stream, and goes on elsewhere when that ends."""
    while not all(watched.compacted for watched in watches):
        daemon = tenant.daemon()
        try:
            async with daemon.stream(tenant.name, WATCH, WatchResponse) as stream:
                await _listen(tenant, stream, watches)
        except CallError as error:
            _expect_no_defect(error)
            await asyncio.sleep(tenant.chance.uniform(0, 0.3))


async def _listen(tenant: Tenant, stream: Stream, watches: list[Watched]) -> None:
    living = {number: watched for number, watched in enumerate(watches, 1) if not watched.compacted}
    for number, watched in living.items():
        create = WatchCreateRequest(
            key=watched.begin,
            range_end=watched.end,
            start_revision=watched.next,
            watch_id=number,
            prev_kv=True,
            progress_notify=True,
        )
        stream.send(WatchRequest(create_request=create))
    chance = tenant.chance
    created: set[int] = set()
    while living:
        if len(created) == len(living) and chance.random() < 0.1:
            stream.send(WatchRequest(progress_request={}))
        answer = await stream.receive()
        if answer.watch_id == -1:
            assert not answer.events
            for number in created & living.keys():
                living[number].tell(answer.header.revision, [])
            continue
        watched = living[answer.watch_id]
        if answer.canceled:
            assert answer.compact_revision > watched.next - 1, f"{watched} was compacted at {answer.compact_revision}"
            watched.compacted = True
            del living[answer.watch_id]
        elif answer.created:
            created.add(answer.watch_id)
            if not watched.next:
                watched.start = watched.next = answer.header.revision + 1
        else:
            watched.tell(answer.header.revision, list(answer.events))
        if chance.random() < 0.05:
            await asyncio.sleep(chance.uniform(0, 0.5))
        if chance.random() < 0.02:
            return
