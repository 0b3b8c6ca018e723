"""The members of a tenant's cluster, as etcd calls those who serve it: here the daemons on one store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fetch.config import Settings
from fetch.engine.alarms import MEMBER_ID


class Member(Protocol):
    """A daemon. `label` is what people call it."""

    @property
    def id(self) -> int:
        """Tells it apart; the same whenever it is started."""

    @property
    def label(self) -> str:
        """Its name."""

    @property
    def client_urls(self) -> Sequence[str]:
        """Where clients reach it."""

    @property
    def peer_urls(self) -> Sequence[str]:
        """Where other daemons do."""


class Membership(Protocol):
    """Who serves."""

    def living(self) -> Sequence[Member]:
        """All daemons that live, the one that is asked among them, in the same order on each."""

    def leader(self, writer: int) -> int:
        """The ID of the one that leads a tenant: the daemon that wrote for it last, if it lives."""


@dataclass(frozen=True, slots=True)
class OnlyMember:
    """The one daemon on a store that it shares with nobody, with the same ID everywhere."""

    label: str
    client_urls: Sequence[str]
    peer_urls: Sequence[str] = ()
    id: int = MEMBER_ID


class Alone:
    """A daemon that shares its store with nobody."""

    def __init__(self, settings: Settings) -> None:
        self._own = OnlyMember(settings.name, settings.advertise_client_urls)

    def living(self) -> Sequence[Member]:
        """See `Membership`."""
        return [self._own]

    def leader(self, _: int) -> int:
        """See `Membership`."""
        return self._own.id
