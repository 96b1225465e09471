"""Addresses, networks, hosts and ports, and the patterns made of them, beside ``ipaddress``."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from common.addresses import (
    LONGEST_NAME,
    HostPort,
    normalise_ip,
    parse_host,
    parse_host_port,
    parse_ip,
    parse_network,
    parse_port,
)
from common.destinations import parse_destination_pattern
from common.errors import AddressError
from common.source_patterns import parse_source_patterns
from tests.fuzz.outcome import outcome

SEEDS: Final = tuple(
    bytes([kind]) + text.encode()
    for kind, texts in enumerate(
        (
            ("192.0.2.7", "2001:db8::7", "::ffff:192.0.2.1", "fe80::1%eth0", "192.0.2.07"),
            (
                "10.0.0.0/8",
                "10.1.2.3/8",
                "[2001:db8::]/32",
                "[2001:db8::/32]",
                "::ffff:10.0.0.0/104",
                "10.1/8",
            ),
            ("intranet.lan", "a_b.c.", "[fe80::1%eth0]", "0x7f.1", "127.1", "xn--a"),
            ("localhost:4433", "[::1]:80", "a:0", "::1:80", "a"),
            ("65535", "0", " 80 ", "00080", "-1"),
            ("*:443", "a.b:8000-8099", "192.168.1.0/24:*", "[::1]:22", "[::]/0:1-2"),
            ("192.0.2.0/24,!192.0.2.13", "10.*,192.0.2.?", "*", "2001:db8::*", "!*"),
        )
    )
    for text in texts
)
WORDS: Final = (
    *(b"::ffff:", b"::", b"127.0.0.1", b"/32", b"/128", b"/0", b"[", b"]", b"%", b"0x", b"xn--"),
    *(b"*", b"!", b",", b"-", b"65535", "\u0661".encode(), "\u2028".encode(), b" ", b"\t"),
)
PROBES: Final = tuple(
    map(ip_address, ("192.0.2.7", "10.1.2.3", "127.0.0.1", "0.0.0.0", "::1", "2001:db8::7", "::"))
)


def check_ip(text: str) -> None:
    address = parse_ip(text)
    theirs = ip_address(text.strip())
    if isinstance(theirs, IPv6Address) and theirs.ipv4_mapped is not None:
        theirs = theirs.ipv4_mapped
    assert address.packed == theirs.packed
    assert normalise_ip(str(address)) == str(address) == normalise_ip(text)


def check_network(text: str) -> None:
    network = parse_network(text)
    assert ip_network(str(network)) == network == parse_network(str(network))
    theirs = ip_network(text.strip().replace("[", "").replace("]", ""))  # no bits of a host
    assert theirs == network or str(theirs.network_address).startswith("::ffff:")
    if network.version == 6:
        assert parse_network(f"[{network}]") == network
        assert network.network_address.ipv4_mapped is None or network.prefixlen < 96


def check_host(text: str) -> None:
    host = parse_host(text)
    assert parse_host(host) == host
    assert host.isascii()
    assert not set(host) & set(" \t\r\n/[]*,@\0")
    assert len(host) <= LONGEST_NAME + 1
    if ":" not in host:
        try:
            theirs = ip_address(host)
        except ValueError:
            assert not host.removesuffix(".").rpartition(".")[2].isdecimal()
        else:
            assert str(theirs) == host


def check_host_port(text: str) -> None:
    pair = parse_host_port(text, lowest=0)
    assert 0 <= pair.port <= 65535
    assert parse_host_port(str(pair), lowest=0) == pair == parse_host_port(str(pair), 1, lowest=0)
    assert HostPort(parse_host(pair.host), pair.port) == pair


def check_port(text: str) -> None:
    port = parse_port(text, lowest=0)
    assert port == int(text.strip())
    assert 0 <= port <= 65535


def check_destination(text: str) -> None:
    pattern = parse_destination_pattern(text, port_required=False)
    again = parse_destination_pattern(str(pattern), port_required=True)
    assert again == pattern
    assert pattern.ports.low <= pattern.ports.high <= 65535
    for address in PROBES:
        covered = pattern.network is None or address in pattern.network
        expected = covered and pattern.name is None
        assert pattern.matches(str(address), address, pattern.ports.low) == expected
    if pattern.name is not None:
        assert pattern.matches(pattern.name.upper() + ".", None, pattern.ports.high)
        assert not pattern.matches(f"x.{pattern.name}", PROBES[0], pattern.ports.high)


def check_sources(text: str) -> None:
    patterns = parse_source_patterns(text)
    for address in PROBES:
        matching = [each for each in patterns.items if each.matches(address)]
        refused = any(each.negated for each in matching)
        assert patterns.admits(address) == (bool(matching) and not refused)
        for each in matching:
            assert each.network is None or address in each.network


CHECKS: Final = (
    check_ip,
    check_network,
    check_host,
    check_host_port,
    check_port,
    check_destination,
    check_sources,
)


def check(data: bytes) -> None:
    if not data:
        return
    text = data[1:].decode("utf-8", "surrogateescape")
    error = outcome(AddressError, lambda: CHECKS[data[0] % len(CHECKS)](text))
    assert error is None or str(error)
