"""What the tests ask of an endpoint: that it starts, and hands out keyspaces."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.endpoints.client import Client
from tests.endpoints.process import Process

Flags = Sequence[str]
"""Flags that both etcd and fetch know, as `--name=value`."""

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # connections are told apart by their certificate, so none is shared
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)


@dataclass(frozen=True, slots=True)
class Missing:
    """An endpoint that cannot run here."""

    name: str
    reason: str


class Server(Protocol):
    """A running endpoint."""

    @property
    def process(self) -> Process: ...

    def connect(self) -> Client:
        """A connection to the same keyspace each time, also after a restart, as it is."""
        ...

    def empty_keyspace(self) -> Client:
        """A connection to a keyspace without keys, leases and alarms, at whatever revision."""
        ...

    def new_keyspace(self) -> AbstractContextManager[Client]:
        """A connection to a keyspace that nobody has written to."""
        ...


class Endpoint(Protocol):
    """A server that can be started."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> tuple[int, int]:
        """The etcd release, major and minor, whose behaviour it promises."""
        ...

    @property
    def is_durable(self) -> bool:
        """Whether data outlives the server."""
        ...

    def start(self, directory: Path, flags: Flags = ()) -> AbstractContextManager[Server]:
        """Starts a server over the data in `directory`, which is created when there is none."""
        ...
