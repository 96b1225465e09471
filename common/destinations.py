"""Patterns of destinations, as in ``--allow`` and ``permitopen=``.

::

    host [":" ports]        host:  name, address, CIDR, or "*" for any; IPv6 in brackets
                            ports: 443, 8000-8099, or "*" for any

A name matches the name that was asked for, in any case and with or without a final dot; wildcards
in names are refused. An address or CIDR matches the address that will be dialled, however it was
asked for. ``*`` matches everything.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.addresses import (
    HIGHEST_PORT,
    IPAddress,
    IPNetwork,
    parse_host,
    parse_ip,
    parse_network,
    parse_port,
)
from common.errors import AddressError


@dataclass(frozen=True, slots=True)
class PortRange:
    """The ports from ``low`` to ``high``, both included."""

    low: int
    high: int

    def __contains__(self, port: int) -> bool:
        return self.low <= port <= self.high

    def __str__(self) -> str:
        if self == ANY_PORT:
            return "*"
        return f"{self.low}" if self.low == self.high else f"{self.low}-{self.high}"


ANY_PORT = PortRange(0, HIGHEST_PORT)


def parse_port_range(text: str) -> PortRange:
    """Return the ports of ``443``, ``8000-8099`` or ``*``.

    Raises:
        AddressError: anything else, or a range that runs backwards.
    """
    if text.strip() == "*":
        return ANY_PORT
    first, dash, last = text.partition("-")
    low = parse_port(first)
    high = parse_port(last) if dash else low
    if low > high:
        raise AddressError(f"the range {text!r} runs backwards; write {high}-{low}")
    return PortRange(low, high)


@dataclass(frozen=True, slots=True)
class DestinationPattern:
    """One pattern; ``name`` and ``network`` both ``None`` is any host.

    Args:
        name: a host name, lower-case, without a final dot.
        network: the addresses.
        ports: the ports.
    """

    name: str | None
    network: IPNetwork | None
    ports: PortRange

    def matches(self, host: str, address: IPAddress | None, port: int) -> bool:
        """Tell whether this pattern covers a destination.

        Args:
            host: as it was asked for: a name or an address.
            address: the address that will be dialled; ``None``, which no network covers, if it is
                not known.
            port: the port that will be dialled.
        """
        if port not in self.ports:
            return False
        if self.name is not None:
            return plain_name(host) == self.name
        return self.network is None or (address is not None and address in self.network)

    def __str__(self) -> str:
        if self.network is not None:
            one = self.network.prefixlen == self.network.max_prefixlen
            host = str(self.network.network_address if one else self.network)
            host = f"[{host}]" if self.network.version == 6 else host
        else:
            host = self.name or "*"
        return f"{host}:{self.ports}"


def plain_name(host: str) -> str:
    """Return ``host`` as names are compared: lower-case, without a final dot (RFC 4343)."""
    return host.lower().removesuffix(".")


def parse_destination_pattern(text: str, *, port_required: bool) -> DestinationPattern:
    """Return the pattern that ``text`` is.

    Args:
        text: see the grammar at the top of this module.
        port_required: whether a pattern without ports is an error, or means any port.

    Raises:
        AddressError: ``text`` is no pattern.
    """
    host, ports_text = _cut(text.strip(), text)
    if ports_text is None and port_required:
        raise AddressError(f"no port in {text!r}; write {host}:443, or {host}:* for any port")
    ports = ANY_PORT if ports_text is None else parse_port_range(ports_text)
    if host == "*":
        return DestinationPattern(None, None, ports)
    if "/" in host or host.startswith("["):
        return DestinationPattern(None, parse_network(host), ports)
    name = parse_host(host)
    try:
        return DestinationPattern(None, parse_network(str(parse_ip(name))), ports)
    except AddressError:
        return DestinationPattern(plain_name(name), None, ports)


def _cut(whole: str, text: str) -> tuple[str, str | None]:
    """Cut ``whole`` into host and ports; the colon that counts is outside brackets."""
    if whole.startswith("["):
        inside, closing, after = whole[1:].partition("]")
        length, colon, ports = after.partition(":")  # [2001:db8::]/32:443 is understood too
        host = f"[{inside}]{length}"
        bad = not closing
    else:
        host, colon, ports = whole.partition(":")
        bad = ":" in ports
    if bad:
        example = f"[{whole}]" if "/" in whole and "[" not in whole else "[2001:db8::7]:443"
        raise AddressError(f"IPv6 stands in brackets: {text!r}; write {example}")
    if not host:
        raise AddressError(f"no host in {text!r}; write host:port, or *:port for any host")
    return host, ports if colon else None
