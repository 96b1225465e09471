"""Addresses, ports, networks and host names: what is accepted, and what is said otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.addresses import (
    HostPort,
    bracketed,
    normalise_ip,
    parse_host,
    parse_host_port,
    parse_ip,
    parse_network,
    parse_port,
    split_list,
)
from common.errors import AddressError

ODD_TEXT = st.text(alphabet="0123456789abcfx.:/[]%-_*! \t\x00é\uff11", max_size=24) | st.text()


@pytest.mark.parametrize(
    ("text", "port"), [("1", 1), ("65535", 65535), (" 80 ", 80), ("00080", 80)]
)
def test_port(text: str, port: int) -> None:
    assert parse_port(text) == port


@pytest.mark.parametrize(
    "text", ["", "0", "65536", "-1", "+1", "1_0", "80.0", "\uff11", "0x50", "9" * 9999]
)
def test_port_refused(text: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_port(text)
    assert str(caught.value) == f"not a port: {text!r}; write a number from 1 to 65535"


def test_port_zero_where_it_makes_sense() -> None:
    assert parse_port("0", lowest=0) == 0


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:DB8::0007", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("::ffff:192.0.2.7%eth0", "192.0.2.7"),
        ("localhost", "localhost"),
        (" DB.Internal ", "db.internal"),
        ("example.org.", "example.org."),
        ("3com.example", "3com.example"),
        ("web_1", "web_1"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        (f"{'a' * 63}.example", f"{'a' * 63}.example"),
    ],
)
def test_host(text: str, host: str) -> None:
    assert parse_host(text) == host
    assert parse_host(host) == host


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "256.1.1.1",
            "not an IPv4 address: '256.1.1.1'; write four numbers from 0 to 255, as in 192.0.2.7",
        ),
        ("1.2.3", "not an IPv4 address: '1.2.3'"),
        ("2130706433", "not an IPv4 address"),
        ("127.1", "not an IPv4 address"),
        ("0x7f.0.0.0x1", "not an IPv4 address"),
        ("0177.0.0.01", "not an IPv4 address"),
        ("example.1.", "not an IPv4 address"),
        ("1.2.3.4.5", "not an IPv4 address"),
        ("", "not a host name or address: ''"),
        (".", "not a host name or address: '.'"),
        ("a..b", "not a host name or address: 'a..b'"),
        ("-a.example", "names are letters, digits and hyphens between dots (RFC 1123)"),
        ("a b", "not a host name or address: 'a b'"),
        ("*.example", "not a host name or address"),
        ("a" * 64, "not a host name or address"),
        (".".join(["a" * 60] * 5), "not a host name or address"),
        ("bücher.example", "write its ASCII form (xn--…)"),
        ("2001:db8::g", "not an IPv6 address: '2001:db8::g'; write one such as [2001:db8::7]"),
        ("[192.0.2.7]", "not an IPv6 address in the brackets: '[192.0.2.7]'"),
        ("fe80::1%", "not an IPv6 zone: '' in 'fe80::1%'; write [fe80::1%eth0]"),
        ("fe80::1%a b", "not an IPv6 zone: 'a b'"),
        ("localhost:80", "not an IPv6 address: 'localhost:80'"),
    ],
)
def test_host_refused(text: str, message: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_host(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "default", "expected"),
    [
        ("localhost:4433", None, HostPort("localhost", 4433)),
        ("localhost", 4433, HostPort("localhost", 4433)),
        ("203.0.113.7:1", 4433, HostPort("203.0.113.7", 1)),
        ("[::1]:4433", None, HostPort("::1", 4433)),
        ("[::1]", 4433, HostPort("::1", 4433)),
        (" Relay.Example:4433 ", None, HostPort("relay.example", 4433)),
    ],
)
def test_host_port(text: str, default: int | None, expected: HostPort) -> None:
    assert parse_host_port(text, default) == expected


@pytest.mark.parametrize(
    ("text", "default", "message"),
    [
        ("localhost", None, "no port in 'localhost'; write localhost:4433"),
        ("[::1]", None, "no port in '[::1]'; write [::1]:4433"),
        ("localhost:", 4433, "not a port: ''; write a number from 1 to 65535"),
        (":4433", None, "no host in ':4433'; write host:port, such as localhost:4433"),
        ("", 4433, "no host in ''; write host:port, such as localhost:4433"),
        ("::1:80", None, "IPv6 addresses stand in brackets: '::1:80'; write [2001:db8::7]:4433"),
        ("::1", 4433, "IPv6 addresses stand in brackets"),
        ("[::1", 4433, "not a host and port: '[::1'; write [2001:db8::7]:4433"),
        ("[::1]4433", None, "not a host and port: '[::1]4433'"),
        ("localhost:0", None, "not a port: '0'"),
        ("1.2.3:80", None, "not an IPv4 address: '1.2.3'"),
    ],
)
def test_host_port_refused(text: str, default: int | None, message: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_host_port(text, default)
    assert message in str(caught.value)


def test_port_zero_of_a_host_where_it_makes_sense() -> None:
    assert parse_host_port("127.0.0.1:0", lowest=0) == HostPort("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        (" 10.0.0.0/8 ", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("[2001:db8::/32]", "2001:db8::/32"),
        ("[2001:db8::]/32", "2001:db8::/32"),
        ("[::1]", "::1/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ],
)
def test_network(text: str, network: str) -> None:
    assert parse_network(text) == ip_network(network)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "10.0.0.5/8",
            "'10.0.0.5/8' has host bits set; write 10.0.0.0/8 for the network or 10.0.0.5 for the"
            " one address",
        ),
        ("::ffff:10.0.0.5/104", "write 10.0.0.0/8 for the network or 10.0.0.5"),
        ("2001:db8::1/32", "write 2001:db8::/32 for the network or 2001:db8::1"),
        (
            "10.0.0.0/33",
            "not an address or network: '10.0.0.0/33'; write one such as 192.0.2.7, 10.0.0.0/8 or"
            " 2001:db8::/32",
        ),
        ("10.0.0.0/255.0.0.0", "not an address or network"),
        ("10.0.0.0/", "not an address or network"),
        ("10.0.0/8", "not an address or network"),
        ("fe80::%eth0/64", "not an address or network"),
        ("[10.0.0.0]/8", "not an address or network"),
        ("[::1]1", "not an address or network"),
        ("[[::1]]", "not an address or network"),
        ("example.org", "not an address or network"),
        ("", "not an address or network"),
    ],
)
def test_network_refused(text: str, message: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_network(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8::0", "2001:db8::"),
    ],
)
def test_normalise_ip(text: str, expected: str) -> None:
    assert normalise_ip(text) == expected


def test_normalise_ip_refused() -> None:
    with pytest.raises(AddressError, match="not an IP address: 'localhost'; write one such as"):
        normalise_ip("localhost")


def test_split_list() -> None:
    assert split_list(["a, b", "c"]) == ["a", "b", "c"]
    assert split_list([]) == []


@pytest.mark.parametrize("value", ["", "a,,b", "a,", " "])
def test_split_list_refuses_empty_items(value: str) -> None:
    with pytest.raises(AddressError) as caught:
        split_list(["x", value])
    assert str(caught.value) == (
        f"an empty item in the list {value!r}; remove the comma, or leave the list out"
    )


@pytest.mark.parametrize(
    "parse", [parse_host, parse_host_port, parse_ip, parse_network, parse_port]
)
@given(text=ODD_TEXT)
def test_any_text_parses_or_is_refused(parse: Callable[[str], object], text: str) -> None:
    with contextlib.suppress(AddressError):
        parse(text)


@given(address=st.ip_addresses(), port=st.integers(1, 65535))
def test_host_port_round_trip(address: IPv4Address | IPv6Address, port: int) -> None:
    written = HostPort(normalise_ip(str(address)), port)
    assert parse_host_port(str(written)) == written


@given(address=st.ip_addresses(), prefix=st.integers(0, 128))
def test_network_round_trip(address: IPv4Address | IPv6Address, prefix: int) -> None:
    network = ip_network((address, min(prefix, address.max_prefixlen)), strict=False)
    parsed = parse_network(str(network))
    assert parse_network(str(parsed)) == parsed
    if parsed.version == network.version:
        assert parsed == network


@given(st.ip_addresses(v=4))
def test_mapped_and_plain_addresses_are_one(address: IPv4Address) -> None:
    assert parse_ip(f"::ffff:{address}") == address
    assert parse_host(f"::ffff:{address}") == parse_host(str(address))
    assert parse_network(f"::ffff:{address}/128") == parse_network(str(address))


def test_brackets() -> None:
    assert [bracketed("::1"), bracketed("127.0.0.1")] == ["[::1]", "127.0.0.1"]
    assert ip_address("::1") == parse_ip("::1")
