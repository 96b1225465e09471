"""Text to addresses, ports, networks and host names; strict, without looking anything up.

Invariants:

* One spelling comes out for each address: IPv4-mapped IPv6 (``::ffff:192.0.2.1``, RFC 4291
  section 2.5.5.2) is IPv4, IPv6 is in the form of RFC 5952, names are lower-case (RFC 4343).
* What looks like an IPv4 address is one or is refused. ``127.1`` or ``0x7f.1``, which the C
  library's resolver takes for addresses, are neither an address nor a name here.
* Every function returns a value or raises :class:`AddressError`, nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from common.errors import AddressError

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

HIGHEST_PORT = 65535  # RFC 9293 section 3.1: sixteen bits
LONGEST_NAME = 253  # RFC 1035 section 2.3.4: 255 octets on the wire, two of them not text

# RFC 1123 section 2.1, and the underscore, which container names use and resolvers take.
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
# A last label like these makes resolvers read the whole name as an IPv4 address.
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ZONE = re.compile(r"[A-Za-z0-9._~-]{1,64}")  # RFC 6874 section 2: unreserved characters


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host (address or name, without brackets) and a port; ``str()`` brackets IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


def bracketed(host: str) -> str:
    """Return ``host`` as it is written before a colon: IPv6 in brackets (RFC 3986 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def parse_port(text: str, *, lowest: int = 1) -> int:
    """Return the port that ``text`` names: decimal digits, ``lowest`` to 65535.

    Args:
        text: the digits; white space around them is ignored.
        lowest: 0 where port 0 (any free port) makes sense, otherwise 1.

    Raises:
        AddressError: anything else.
    """
    digits = text.strip()
    if digits.isascii() and digits.isdecimal() and len(digits) <= 5:
        port = int(digits)
        if lowest <= port <= HIGHEST_PORT:
            return port
    raise AddressError(f"not a port: {text!r}; write a number from {lowest} to {HIGHEST_PORT}")


@lru_cache(maxsize=4096)
def parse_ip(text: str) -> IPAddress:
    """Return the address that ``text`` is, IPv4-mapped IPv6 as IPv4 and without its zone.

    Raises:
        AddressError: ``text`` is no address.
    """
    try:
        address = ip_address(text.strip())
    except ValueError:
        raise AddressError(
            f"not an IP address: {text!r}; write one such as 192.0.2.7 or 2001:db8::7"
        ) from None
    return _plain(address)


def normalise_ip(text: str) -> str:
    """Return ``text``, an address as a socket gives it, in its one spelling.

    ``::ffff:192.0.2.1`` becomes ``192.0.2.1``; ``fe80::1%eth0`` becomes ``fe80::1``.

    Raises:
        AddressError: ``text`` is no address.
    """
    return str(parse_ip(text))


def parse_network(text: str) -> IPNetwork:
    """Return the network that ``text`` is: an address, or a CIDR such as ``10.0.0.0/8``.

    IPv6 may stand in brackets: ``[2001:db8::]/32`` or ``[2001:db8::/32]``.

    Raises:
        AddressError: no network, or one with host bits set (RFC 4632 section 3.1).
    """
    bare = text.strip()
    if bare.startswith("[") and bare.count("[") == bare.count("]") == 1:
        inside, _, after = bare[1:].partition("]")
        bare = inside + after
        if ":" not in inside or not (after == "" or after.startswith("/")):
            raise _bad_network(text)
    address_text, slash, length_text = bare.partition("/")
    if "%" in bare or (slash and not re.fullmatch(r"[0-9]{1,3}", length_text)):
        raise _bad_network(text)
    try:
        address = ip_address(address_text)
        length = int(length_text) if slash else address.max_prefixlen
        network = ip_network((address, length), strict=False)
    except ValueError:
        raise _bad_network(text) from None
    if network.network_address != address:
        raise AddressError(
            f"{text.strip()!r} has host bits set; write {_plain_network(network)} for the network"
            f" or {_plain(address)} for the one address"
        )
    return _plain_network(network)


def parse_host(text: str) -> str:
    """Return the address or host name that ``text`` is, in its one spelling.

    IPv6 may stand in brackets and may have a zone (``fe80::1%eth0``). A name follows RFC 1123
    section 2.1, with underscores allowed; a dot at its end stays.

    Raises:
        AddressError: neither an address nor a name.
    """
    host = text.strip()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise AddressError(f"not an IPv6 address in the brackets: {text!r}")
    if ":" in host:
        return _parse_ipv6_host(host, text)
    lower = host.lower()
    labels = lower.removesuffix(".").split(".")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise AddressError(
                f"not an IPv4 address: {text!r}; write four numbers from 0 to 255, as in 192.0.2.7"
            ) from None
    if not host.isascii():
        raise AddressError(f"not a host name: {text!r}; write its ASCII form (xn--…)")
    if len(lower.removesuffix(".")) > LONGEST_NAME or not all(map(_LABEL.fullmatch, labels)):
        raise AddressError(
            f"not a host name or address: {text!r}; names are letters, digits and hyphens between"
            " dots (RFC 1123)"
        )
    return lower


def parse_host_port(text: str, default_port: int | None = None, *, lowest: int = 1) -> HostPort:
    """Return the host and port of ``host:port``, ``[ipv6]:port`` or, with a default, ``host``.

    Args:
        text: as a person wrote it; white space around it is ignored.
        default_port: the port if none is written; ``None`` makes the port mandatory.
        lowest: 0 where port 0 (any free port) makes sense, otherwise 1.

    Raises:
        AddressError: anything else; IPv6 without brackets included, since ``::1:80`` is both.
    """
    whole = text.strip()
    if whole.startswith("["):
        inside, closing, after = whole[1:].partition("]")
        host, colon, port_text = f"[{inside}{closing}", after[:1], after[1:]
        if not closing or colon not in ("", ":"):
            raise AddressError(f"not a host and port: {text!r}; write [2001:db8::7]:4433")
    elif whole.count(":") > 1:
        raise AddressError(f"IPv6 addresses stand in brackets: {text!r}; write [2001:db8::7]:4433")
    else:
        host, colon, port_text = whole.partition(":")
    if not host:
        raise AddressError(f"no host in {text!r}; write host:port, such as localhost:4433")
    if not colon and default_port is None:
        raise AddressError(f"no port in {text!r}; write {host}:4433")
    port = parse_port(port_text, lowest=lowest) if colon or default_port is None else default_port
    return HostPort(parse_host(host), port)


def split_list(values: Iterable[str]) -> list[str]:
    """Return the items of a flag that may be repeated and may hold commas, trimmed, in order.

    Raises:
        AddressError: an item is empty, as in ``a,,b`` or an unset variable's ``""``. Dropping
            it in silence could turn a list that restricts into no list at all.
    """
    items: list[str] = []
    for value in values:
        for item in value.split(","):
            if not item.strip():
                raise AddressError(
                    f"an empty item in the list {value!r}; remove the comma, or leave the list out"
                )
            items.append(item.strip())
    return items


def _parse_ipv6_host(host: str, text: str) -> str:
    address_text, percent, zone = host.partition("%")
    try:
        address = IPv6Address(address_text)
    except ValueError:
        raise AddressError(
            f"not an IPv6 address: {text!r}; write one such as [2001:db8::7]"
        ) from None
    if percent and not _ZONE.fullmatch(zone):
        raise AddressError(f"not an IPv6 zone: {zone!r} in {text!r}; write [fe80::1%eth0]")
    plain = _plain(address)
    return f"{plain}%{zone}" if percent and isinstance(plain, IPv6Address) else str(plain)


def _plain(address: IPAddress) -> IPAddress:
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or IPv6Address(int(address))


def _plain_network(network: IPNetwork) -> IPNetwork:
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network


def _bad_network(text: str) -> AddressError:
    return AddressError(
        f"not an address or network: {text!r}; write one such as 192.0.2.7, 10.0.0.0/8 or"
        " 2001:db8::/32"
    )
