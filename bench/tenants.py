"""Many tenants on one fetch, each with a certificate, a connection, a lease and a watch of its own: what they cost."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from statistics import median
from typing import Any

import grpc

from bench.contenders import Server, get
from fetch.api import rpc_pb2
from fetch.tls import certificates
from fetch.tls.certificates import Certificate

COUNTS = (0, 100, 1_000, 10_000)
_AT_ONCE = 32
_LEASE_SECONDS = 3600
_COLD = 20
_SECONDS = 60.0


async def idle(server: Server, counts: Sequence[int], seconds: float) -> AsyncIterator[dict[str, Any]]:
    """The server's memory with ever more idle tenants; stops where `seconds` have passed, and tells how far it came."""
    signer = Certificate.read(server.issued.directory, "ca")
    held: list[_Tenant] = []
    began = time.monotonic()
    for count in counts:
        while len(held) < count and time.monotonic() - began < seconds:
            batch = [_Tenant(server, signer) for _ in range(min(_AT_ONCE, count - len(held)))]
            await asyncio.gather(*(tenant.settle() for tenant in batch))
            held += batch
        await asyncio.sleep(2)  # what the last ones left is collected
        yield {"server": server.contender.name, "tenants": len(held), **server.memory()}
    for tenant in held:
        await tenant.channel.close()


class _Tenant:
    """A tenant that nobody knew, with one watch and one lease once it has settled."""

    def __init__(self, server: Server, signer: Certificate) -> None:
        own = certificates.issue(signer, f"idle-{secrets.token_hex(6)}")
        credentials = grpc.ssl_channel_credentials(signer.certificate_pem, own.key_pem, own.certificate_pem)
        self.channel = grpc.aio.secure_channel(server.address, credentials)
        self.watch: Any = None

    async def settle(self) -> None:
        """Returns when the lease is granted and the watch is there.

        :raises grpc.RpcError:
        """
        grant = self.channel.unary_unary(
            "/etcdserverpb.Lease/LeaseGrant",
            rpc_pb2.LeaseGrantRequest.SerializeToString,
            rpc_pb2.LeaseGrantResponse.FromString,
        )
        await grant(rpc_pb2.LeaseGrantRequest(TTL=_LEASE_SECONDS), timeout=_SECONDS)
        watch = self.channel.stream_stream(
            "/etcdserverpb.Watch/Watch", rpc_pb2.WatchRequest.SerializeToString, rpc_pb2.WatchResponse.FromString
        )
        self.watch = watch()
        created = rpc_pb2.WatchCreateRequest(key=b"/registry/", range_end=b"/registry0")
        await self.watch.write(rpc_pb2.WatchRequest(create_request=created))
        await asyncio.wait_for(self.watch.read(), _SECONDS)


def cold(server: Server) -> dict[str, Any]:
    """Milliseconds that a tenant's first request takes, once its connection stands; and those of connecting."""
    signer = Certificate.read(server.issued.directory, "ca")
    connecting: list[float] = []
    first: list[float] = []
    for _ in range(_COLD):
        own = certificates.issue(signer, f"cold-{secrets.token_hex(6)}")
        credentials = grpc.ssl_channel_credentials(signer.certificate_pem, own.key_pem, own.certificate_pem)
        with grpc.secure_channel(server.address, credentials) as channel:
            began = time.perf_counter()
            grpc.channel_ready_future(channel).result(_SECONDS)
            connected = time.perf_counter()
            get(channel, b"/first", _SECONDS)
            first.append((time.perf_counter() - connected) * 1000)
            connecting.append((connected - began) * 1000)
    return {
        "server": server.contender.name,
        "cold_p50": median(first),
        "cold_max": max(first),
        "connecting_p50": median(connecting),
    }
