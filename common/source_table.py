"""Values by the network a connection comes from: the most specific network wins.

The longest prefix among the networks of the connection's own family; the value for everybody comes
last. ``match`` runs for every accepted connection, so it costs one dictionary look-up for each
prefix length in use, and parsed addresses are remembered (the last :data:`REMEMBERED_SOURCES`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Generic, TypeVar

from common.addresses import IPNetwork, parse_ip

REMEMBERED_SOURCES = 4096  # addresses; about 1 MiB, and more than keep coming back at one entry

ValueT = TypeVar("ValueT")


class SourceTable(Generic[ValueT]):
    """What is there for whom."""

    __slots__ = ("_by_shift", "_values")

    def __init__(self) -> None:
        self._values: dict[IPNetwork | None, ValueT] = {}
        # For each family: bits to drop -> network number -> value; the longest prefix first.
        self._by_shift: dict[int, dict[int, dict[int, ValueT]]] = {4: {}, 6: {}}

    def __len__(self) -> int:
        return len(self._values)

    def get(self, source: IPNetwork | None) -> ValueT | None:
        """Return the value for exactly this network (``None``: for everybody)."""
        return self._values.get(source)

    def values(self) -> list[ValueT]:
        """Return all values, in the order they were put."""
        return list(self._values.values())

    def put(self, source: IPNetwork | None, value: ValueT) -> None:
        """Set the value for a network."""
        self._values[source] = value
        if source is not None:
            shift = source.max_prefixlen - source.prefixlen
            shifts = self._by_shift[source.version]
            shifts.setdefault(shift, {})[int(source.network_address) >> shift] = value
            self._by_shift[source.version] = dict(sorted(shifts.items()))

    def remove(self, source: IPNetwork | None) -> None:
        """Forget the value for a network; there is one."""
        del self._values[source]
        if source is not None:
            shift = source.max_prefixlen - source.prefixlen
            shifts = self._by_shift[source.version]
            del shifts[shift][int(source.network_address) >> shift]
            if not shifts[shift]:
                del shifts[shift]

    def match(self, source_ip: str) -> ValueT | None:
        """Return the value for a connection from ``source_ip``, or ``None``.

        Args:
            source_ip: as a socket gives it; IPv4-mapped IPv6 and zones are understood.

        Raises:
            AddressError: ``source_ip`` is no address.
        """
        version, number = _parsed(source_ip)
        for shift, of_shift in self._by_shift[version].items():
            value = of_shift.get(number >> shift)
            if value is not None:
                return value
        return self._values.get(None)


@lru_cache(maxsize=REMEMBERED_SOURCES)
def _parsed(source_ip: str) -> tuple[int, int]:
    address = parse_ip(source_ip)
    return address.version, int(address)
