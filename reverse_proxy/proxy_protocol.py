"""PROXY protocol headers: they tell a service who its client is, before the client's first byte.

Source: HAProxy's ``proxy-protocol.txt``; section 2.1 is the text form (version 1), section 2.2 the
binary one (version 2). Two addresses of different families are both told as IPv6, with the IPv4
one mapped (RFC 4291, section 2.5.5.2): the client's address matters more than its form.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Literal

from common.addresses import HostPort

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"

_VERSION_2: Final = 0x20
_LOCAL: Final = 0x0
_PROXY: Final = 0x1
_TCP4: Final = 0x11
_TCP6: Final = 0x21


def header(version: Literal[1, 2], source: HostPort, destination: HostPort) -> bytes:
    """Return the header for one TCP connection.

    Args:
        source: the client.
        destination: where the client came in.

    Either may be no address (the host is empty): then the service is told nothing of the client
    (``UNKNOWN`` in version 1, ``LOCAL`` in version 2), as the protocol wants it.
    """
    ends = _ends(source.host, destination.host)
    if version == 1:
        if ends is None:
            return b"PROXY UNKNOWN\r\n"
        client, entrance = ends
        family = "TCP4" if client.version == 4 else "TCP6"
        return f"PROXY {family} {client} {entrance} {source.port} {destination.port}\r\n".encode()
    if ends is None:
        return SIGNATURE + bytes((_VERSION_2 | _LOCAL, 0, 0, 0))
    client, entrance = ends
    addresses = client.packed + entrance.packed
    ports = source.port.to_bytes(2, "big") + destination.port.to_bytes(2, "big")
    body = addresses + ports
    kind = _TCP4 if client.version == 4 else _TCP6
    return SIGNATURE + bytes((_VERSION_2 | _PROXY, kind)) + len(body).to_bytes(2, "big") + body


def _ends(
    source: str, destination: str
) -> tuple[IPv4Address, IPv4Address] | tuple[IPv6Address, IPv6Address] | None:
    """Return both addresses in one family, or ``None`` if one is no address."""
    try:
        client = ip_address(source.partition("%")[0])
        entrance = ip_address(destination.partition("%")[0])
    except ValueError:
        return None
    client, entrance = _plain(client), _plain(entrance)
    if isinstance(client, IPv4Address) and isinstance(entrance, IPv4Address):
        return client, entrance
    return _as_ipv6(client), _as_ipv6(entrance)


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return an IPv4 address that a dual-stack socket gave as IPv6 in its own form."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _as_ipv6(address: IPv4Address | IPv6Address) -> IPv6Address:
    if isinstance(address, IPv6Address):
        return address
    return IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
