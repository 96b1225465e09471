"""PROXY protocol headers, byte by byte, after HAProxy's proxy-protocol.txt."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.addresses import HostPort
from reverse_proxy.proxy_protocol import header

V2 = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
CLIENT, ENTRANCE = HostPort("192.0.2.7", 50000), HostPort("198.51.100.1", 443)
CLIENT6, ENTRANCE6 = HostPort("2001:db8::7", 50000), HostPort("2001:db8::1", 443)
NOBODY = HostPort("", 0)

TEXTS = {
    "IPv4": (CLIENT, ENTRANCE, b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n"),
    "IPv6": (CLIENT6, ENTRANCE6, b"PROXY TCP6 2001:db8::7 2001:db8::1 50000 443\r\n"),
    "IPv4 in IPv6": (
        HostPort("::ffff:192.0.2.7", 50000),
        ENTRANCE,
        b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n",
    ),
    "mixed": (CLIENT6, ENTRANCE, b"PROXY TCP6 2001:db8::7 ::ffff:198.51.100.1 50000 443\r\n"),
    "a scope": (
        HostPort("fe80::1%eth0", 1),
        ENTRANCE6,
        b"PROXY TCP6 fe80::1 2001:db8::1 1 443\r\n",
    ),
    "no client": (NOBODY, ENTRANCE, b"PROXY UNKNOWN\r\n"),
    "no entrance": (CLIENT, NOBODY, b"PROXY UNKNOWN\r\n"),
    "a name": (HostPort("a.example", 1), ENTRANCE, b"PROXY UNKNOWN\r\n"),
    "a trick": (HostPort("1.1.1.1 2.2.2.2 1 1\r\nGET /", 1), ENTRANCE, b"PROXY UNKNOWN\r\n"),
}


@pytest.mark.parametrize(("client", "entrance", "text"), TEXTS.values(), ids=TEXTS.keys())
def test_the_text_form(client: HostPort, entrance: HostPort, text: bytes) -> None:
    written = header(1, client, entrance)
    # Python writes the mapped address in hexadecimal before 3.13.
    assert written.replace(b"::ffff:c633:6401", b"::ffff:198.51.100.1") == text
    assert len(written) <= 107


def test_the_binary_form_of_ipv4() -> None:
    body = bytes((192, 0, 2, 7, 198, 51, 100, 1)) + struct.pack(">HH", 50000, 443)
    assert header(2, CLIENT, ENTRANCE) == V2 + b"\x21\x11\x00\x0c" + body


def test_the_binary_form_of_ipv6() -> None:
    body = ip_address("2001:db8::7").packed + ip_address("2001:db8::1").packed
    body += struct.pack(">HH", 50000, 443)
    assert header(2, CLIENT6, ENTRANCE6) == V2 + b"\x21\x21\x00\x24" + body


@pytest.mark.parametrize(("client", "entrance"), [(NOBODY, ENTRANCE), (CLIENT, NOBODY)])
def test_the_binary_form_of_nobody_is_local(client: HostPort, entrance: HostPort) -> None:
    assert header(2, client, entrance) == V2 + b"\x20\x00\x00\x00"


@given(host=st.text(max_size=64), port=st.integers(0, 65535))
def test_whatever_a_relay_makes_up_is_one_header(host: str, port: int) -> None:
    text = header(1, HostPort(host, port), ENTRANCE)
    assert text.startswith(b"PROXY ")
    assert text.endswith(b"\r\n")
    assert text.count(b"\n") == 1
    assert text.isascii()
    binary = header(2, HostPort(host, port), ENTRANCE)
    (size,) = struct.unpack(">H", binary[14:16])
    assert binary.startswith(V2)
    assert len(binary) == 16 + size
