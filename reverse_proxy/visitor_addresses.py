"""Loopback addresses that stand for clients: a pure table.

A service that understands neither PROXY protocol nor ``X-Forwarded-For`` can still tell its clients
apart, limit and ban them, if each comes from an address of its own: 127.x.y.z, which on Linux is
this machine's without further ado. The address is made from the client's by a hash, so it is the
same after a restart even if the table is lost; only where two clients would share one the later
one gets the next, and the table remembers.

A client is an IPv4 address, or an IPv6 /64: what one household has.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

MOST: Final = 65_536
"""Clients that are remembered; then the one that was seen least recently is forgotten."""
_BASE: Final = int(IPv4Address("127.0.0.0"))
_LOWEST: Final = 1 << 16  # 127.0.x.y is left to the machine's own services
_COUNT: Final = (1 << 24) - _LOWEST
_BYTE: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_PLAIN: Final = re.compile(rf"(?:{_BYTE}\.){{3}}{_BYTE}")
"""IPv4 as it is written here; to parse it takes ten times as long, and a file has 65,536."""


@dataclass(slots=True)
class Seen:
    """One client: who it is, and when it was seen (seconds since the epoch)."""

    client: str
    first: float
    last: float


class VisitorAddresses:
    """Which loopback address stands for which client."""

    def __init__(self, most: int = MOST) -> None:
        self.newcomers = 0
        """Clients that were not known when they came, ever."""
        self._most = most
        self._by_address: dict[str, Seen] = {}  # the client seen least recently first
        self._by_client: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._by_address)

    def stand_in(self, host: str, now: float) -> str:
        """Return the address that stands for the client at ``host``, an IP address.

        Raises:
            ValueError: ``host`` is no address.
        """
        client = client_of(host)
        address = self._by_client.get(client)
        if address is None:
            address = self._free(client)
            self.newcomers += 1
            if len(self._by_address) >= self._most:
                oldest = next(iter(self._by_address))
                del self._by_client[self._by_address.pop(oldest).client]
            seen = Seen(client, now, now)
        else:
            seen = self._by_address.pop(address)
            seen.last = now
        self._by_address[address] = seen
        self._by_client[client] = address
        return address

    def who(self, address: str) -> Seen | None:
        """Return the client that an address stands for."""
        return self._by_address.get(address)

    def items(self) -> list[tuple[str, Seen]]:
        """Return all, the client seen least recently first."""
        return list(self._by_address.items())

    def restore(self, address: str, seen: Seen) -> bool:
        """Take over what was remembered; return whether it fits."""
        try:
            number = int(IPv4Address(address)) - _BASE
            fits = _is_usable(number) and client_of(seen.client.partition("/")[0]) == seen.client
        except ValueError:
            return False
        if not fits or address in self._by_address or seen.client in self._by_client:
            return False
        if len(self._by_address) >= self._most:
            return False
        self._by_address[address] = seen
        self._by_client[seen.client] = address
        return True

    def _free(self, client: str) -> str:
        digest = hashlib.sha256(client.encode()).digest()
        offset = int.from_bytes(digest[:8], "big") % _COUNT
        while True:
            number = _LOWEST + offset
            address = str(IPv4Address(_BASE + number))
            if _is_usable(number) and address not in self._by_address:
                return address
            offset = (offset + 1) % _COUNT


def client_of(host: str) -> str:
    """Return what counts as one client: the IPv4 address, or the IPv6 /64 as ``2001:db8::/64``.

    Raises:
        ValueError: ``host`` is no address.
    """
    if _PLAIN.fullmatch(host):
        return host
    if ":" in host:
        address = IPv6Address(host.partition("%")[0])
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return str(IPv4Address(host))


def _is_usable(number: int) -> bool:
    return _LOWEST <= number < (1 << 24) and number & 0xFF not in (0, 0xFF)
