"""Which stranger has to go when there are too many: a pure decision.

A connection counts as a stranger from accept to HELLO. Strangers are limited in all and per
source, and it is never the newcomer who pays: when the limit is reached the oldest connection of
the same source goes, of those that are silent or of those that have spoken, whichever are more. So
neither 1,000 silent connections nor 1,000 that began a handshake can keep a legitimate client of
the same address out: it is silent for one round trip, speaks for another, and is no stranger then.

A source is an IPv4 address or an IPv6 /64, which is what one host or site has (RFC 6177).
"""

from __future__ import annotations

from collections.abc import Hashable
from ipaddress import IPv6Address, ip_address
from typing import Final, Generic, TypeVar

PER_SOURCE: Final = 128
"""Strangers of one source: a client dials 32 at once, and clients may share a NAT."""
IN_ALL: Final = 2048
"""Strangers in all: 20 MiB while silent (10 KiB each), 150 MiB if all are in a TLS handshake."""


def places(descriptors: int) -> int:
    """Return how many strangers there may be in all where ``descriptors`` is the limit.

    Strangers take a quarter of them at most, so they never leave others without one: out of
    descriptors nobody is accepted any more, not even to take the place of the oldest.
    """
    return min(IN_ALL, max(descriptors // 4, 1))


StrangerT = TypeVar("StrangerT", bound=Hashable)


def source_of(address: str) -> str:
    """Return what limits are counted by: the IPv4 address, or the IPv6 /64."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        return str(IPv6Address(int(ip) >> 64 << 64))
    return str(ip)


class _Source(Generic[StrangerT]):
    """The strangers of one source, oldest first."""

    __slots__ = ("silent", "speaking")

    def __init__(self) -> None:
        self.silent: dict[StrangerT, None] = {}
        self.speaking: dict[StrangerT, None] = {}

    def __len__(self) -> int:
        return len(self.silent) + len(self.speaking)

    def evict(self) -> StrangerT:
        queue = self.silent if len(self.silent) >= len(self.speaking) else self.speaking
        stranger = next(iter(queue))
        del queue[stranger]
        return stranger


class Admission(Generic[StrangerT]):
    """The strangers there are, by source."""

    def __init__(self, per_source: int = PER_SOURCE, in_all: int = IN_ALL) -> None:
        self._per_source, self._in_all = per_source, in_all
        self._sources: dict[str, _Source[StrangerT]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def admit(self, stranger: StrangerT, source: str) -> StrangerT | None:
        """Take in a stranger from ``source`` (:func:`source_of`); return who has to go, if any.

        Whoever has to go is forgotten here already.
        """
        mine = self._sources.get(source)
        evicted: StrangerT | None = None
        if mine is not None and len(mine) >= self._per_source:
            evicted = self._evict(source)
        elif self._count >= self._in_all:
            evicted = self._evict(max(self._sources, key=lambda each: len(self._sources[each])))
        self._sources.setdefault(source, _Source()).silent[stranger] = None
        self._count += 1
        return evicted

    def everybody(self) -> list[StrangerT]:
        """Return all strangers."""
        return [
            stranger
            for source in self._sources.values()
            for stranger in (*source.silent, *source.speaking)
        ]

    def spoke(self, stranger: StrangerT, source: str) -> None:
        """Note that the stranger has sent its first byte."""
        mine = self._sources.get(source)
        if mine is not None and stranger in mine.silent:
            del mine.silent[stranger]
            mine.speaking[stranger] = None

    def leave(self, stranger: StrangerT, source: str) -> None:
        """Forget a stranger that has logged in or gone; evicted ones are forgotten already."""
        mine = self._sources.get(source)
        if mine is None:
            return
        for queue in (mine.silent, mine.speaking):
            if stranger in queue:
                del queue[stranger]
                self._count -= 1
        if not mine:
            del self._sources[source]

    def _evict(self, source: str) -> StrangerT:
        mine = self._sources[source]
        self._count -= 1
        stranger = mine.evict()
        if not mine:
            del self._sources[source]
        return stranger
