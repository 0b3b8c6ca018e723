"""Daemons send each other writes over gRPC with mTLS, and nobody else can."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest

from fetch.api.rpc_pb2 import PutRequest, RangeRequest, RangeResponse, RequestOp, TxnResponse
from fetch.config import Settings
from fetch.peers import engine
from fetch.server import running
from fetch.tls import certificates
from fetch.v1.peers_pb2 import Done, Results, Write, Writes
from tests.daemons.conftest import Site
from tests.simulation.clients import kube

PATIENCE_SECONDS = 30


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Write]:
    """The writes that one daemon has sent to another and had answered."""
    answered: list[Write] = []
    send = engine.SharedEngine._send

    async def noted(self: engine.SharedEngine, link: engine.Link, write: Write) -> Done | None:
        done = await send(self, link, write)
        if done is not None:
            answered.append(write)
        return done

    monkeypatch.setattr(engine.SharedEngine, "_send", noted)
    return answered


async def create(channel: grpc.aio.Channel, key: bytes) -> TxnResponse:
    call = channel.unary_unary("/etcdserverpb.KV/Txn", response_deserializer=TxnResponse.FromString)
    request = kube(key, 0, RequestOp(request_put=PutRequest(key=key, value=b"value")))
    return await call(request.SerializeToString())


async def write_until(channels: list[grpc.aio.Channel], sent: list[Write]) -> None:
    """Writes through all of them until one daemon's writes go to another."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        number = 0
        while not sent:
            number += 1
            await asyncio.gather(
                *(create(channel, b"/%d/%d" % (number, index)) for index, channel in enumerate(channels))
            )


@contextlib.asynccontextmanager
async def two(site: Site) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Two daemons, and a tenant's channel to each."""
    one, other = site.settings(), site.settings()
    async with running(one), running(other), site.client(one) as to_one, site.client(other) as to_other:
        yield [to_one, to_other]


async def test_writes_go_to_the_daemon_that_writes_for_the_tenant(site: Site, sent: list[Write]) -> None:
    async with two(site) as channels:
        await write_until(channels, sent)
        revisions = [
            (await create(channel, b"/last/%d" % index)).header.revision for index, channel in enumerate(channels)
        ]
        get = channels[0].unary_unary("/etcdserverpb.KV/Range", response_deserializer=RangeResponse.FromString)
        found = await get(RangeRequest(key=b"/last/", range_end=b"/last0").SerializeToString())
    assert [kv.mod_revision for kv in found.kvs] == revisions
    assert found.header.revision == revisions[1]


async def test_a_daemon_that_has_gone_is_written_without(site: Site, sent: list[Write]) -> None:
    one, other = site.settings(), site.settings()
    async with running(one), site.client(one) as to_one:
        async with running(other), site.client(other) as to_other:
            await write_until([to_one, to_other], sent)
        async with asyncio.timeout(PATIENCE_SECONDS):
            for number in range(10):
                assert (await create(to_one, b"/after/%d" % number)).succeeded


async def refusal(site: Site, settings: Settings, certificate: certificates.Certificate) -> grpc.StatusCode | None:
    """What somebody with this certificate meets who speaks the daemons' protocol; None: results."""
    async with site.channel(settings.listen_peer_urls[0], certificate, site.peers) as channel:
        call = channel.stream_stream("/fetch.v1.Peers/Exchange")()
        try:
            Results.FromString(await call.read())
            await call.write(Writes(origin=1, writes=[Write(number=1, tenant="beta", put=b"")]).SerializeToString())
        except grpc.aio.AioRpcError as error:
            return error.code()
        call.cancel()
        return None


async def test_a_tenants_certificate_is_no_daemons(site: Site) -> None:
    settings = site.settings()
    async with running(settings):
        assert await refusal(site, settings, certificates.issue(site.clients, "alpha")) is grpc.StatusCode.UNAVAILABLE


async def test_a_daemons_certificate_is_one(site: Site) -> None:
    settings = site.settings()
    async with running(settings):
        assert await refusal(site, settings, certificates.issue(site.peers, "daemon")) is None


async def test_names_that_are_no_daemons_are_refused(site: Site) -> None:
    settings = site.settings(peer_cert_allowed_cn=("daemon",))
    async with running(settings):
        assert await refusal(site, settings, certificates.issue(site.peers, "daemon")) is None
        denied = await refusal(site, settings, certificates.issue(site.peers, "somebody"))
    assert denied is grpc.StatusCode.PERMISSION_DENIED


async def test_the_clients_address_does_not_serve_daemons(site: Site) -> None:
    settings = site.settings()
    async with running(settings), site.client(settings) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as met:
            await channel.stream_stream("/fetch.v1.Peers/Exchange")().read()
    assert met.value.code() is grpc.StatusCode.UNIMPLEMENTED
