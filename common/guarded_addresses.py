"""Addresses that are not dialled unless somebody names them.

Cloud machines hand their credentials to whoever asks a link-local address; 0.0.0.0 is the machine
itself by another name; multicast and broadcast are no destinations of TCP. Addresses that carry an
IPv4 address inside (IPv4-mapped and -compatible, NAT64, 6to4) are judged by that one too, since a
gateway on the way may unwrap them.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network

from common.addresses import IPAddress, IPNetwork

# Network -> what to call it. A closer name stands before the network it lies in.
_GUARDED: dict[IPNetwork, str] = {
    ip_network(text): kind
    for text, kind in {
        "169.254.169.254/32": "the cloud's metadata service",
        "169.254.0.0/16": "link-local",  # RFC 3927
        "fe80::/10": "link-local",  # RFC 4291 section 2.5.6
        "fd00:ec2::254/128": "the cloud's metadata service",  # EC2's, over IPv6
        "0.0.0.0/8": "unspecified",  # RFC 1122 section 3.2.1.3
        "::/128": "unspecified",  # RFC 4291 section 2.5.2
        "224.0.0.0/4": "multicast",  # RFC 5771
        "ff00::/8": "multicast",  # RFC 4291 section 2.7
        "255.255.255.255/32": "broadcast",  # RFC 919
    }.items()
}
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052 section 2.1
_COMPATIBLE = IPv6Network("::/96")  # RFC 4291 section 2.5.5.1


def carried_addresses(address: IPAddress) -> tuple[IPAddress, ...]:
    """Return ``address`` and the IPv4 address that it carries, if it carries one."""
    if isinstance(address, IPv4Address):
        return (address,)
    inner = address.ipv4_mapped or address.sixtofour
    carrying = address in _NAT64 or (address in _COMPATIBLE and int(address) > 1)  # not :: nor ::1
    if inner is None and carrying:
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    return (address,) if inner is None else (address, inner)


def guarded_kind(address: IPAddress) -> str | None:
    """Return what kind of guarded address ``address`` is (``"link-local"``), or ``None``."""
    return next((kind for network, kind in _GUARDED.items() if address in network), None)


def is_guarded_network(network: IPNetwork) -> bool:
    """Tell whether all of ``network`` is guarded, so that writing it names guarded addresses."""
    return any(_within(network, guarded) for guarded in _GUARDED)


def _within(inner: IPNetwork, outer: IPNetwork) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)
