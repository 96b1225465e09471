"""Patterns of destinations: grammar and matching."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.addresses import parse_ip
from common.destinations import parse_destination_pattern
from common.errors import AddressError


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("db.Internal", "db.internal:*"),
        ("db.internal.:5432", "db.internal:5432"),
        ("10.0.0.0/8", "10.0.0.0/8:*"),
        ("10.0.0.1:80-90", "10.0.0.1:80-90"),
        ("10.0.0.1:*", "10.0.0.1:*"),
        ("*", "*:*"),
        ("*:443", "*:443"),
        ("[::1]:443", "[::1]:443"),
        ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
        ("[2001:db8::]/32:443", "[2001:db8::/32]:443"),
        ("[::ffff:10.0.0.1]", "10.0.0.1:*"),
        (" db:7-7 ", "db:7"),
    ],
)
def test_grammar(text: str, written: str) -> None:
    pattern = parse_destination_pattern(text, port_required=False)
    assert str(pattern) == written
    assert parse_destination_pattern(written, port_required=True) == pattern


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("db", "no port in 'db'; write db:443, or db:* for any port"),
        ("[::1]", "no port in '[::1]'; write [::1]:443"),
        ("", "no host in ''; write host:port, or *:port for any host"),
        (":80", "no host in ':80'"),
        ("::1:80", "IPv6 stands in brackets: '::1:80'; write [2001:db8::7]:443"),
        ("fe80::/10", "IPv6 stands in brackets: 'fe80::/10'; write [fe80::/10]"),
        ("[::1:80", "IPv6 stands in brackets"),
        ("*.example:80", "not a host name or address: '*.example'"),
        ("db:90-80", "the range '90-80' runs backwards; write 80-90"),
        ("db:0", "not a port: '0'"),
        ("db:", "not a port: ''"),
        ("10.0.0.1/8:80", "write 10.0.0.0/8 for the network or 10.0.0.1 for the one address"),
        ("10.0.0:80", "not an IPv4 address: '10.0.0'"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_destination_pattern(text, port_required=True)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "host", "ip", "port", "matches"),
    [
        ("db:5432", "DB.", "10.0.0.1", 5432, True),
        ("db:5432", "db", "10.0.0.1", 5433, False),
        ("db:5432", "db2", "10.0.0.1", 5432, False),
        ("10.0.0.1:80", "db", "10.0.0.1", 80, True),
        ("10.0.0.1:80", "10.0.0.1", "10.0.0.2", 80, False),
        ("10.0.0.0/8:80-90", "db", "10.9.9.9", 90, True),
        ("10.0.0.0/8:80-90", "db", "10.9.9.9", 91, False),
        ("10.0.0.0/8:*", "x", "::a00:1", 80, False),
        ("*:80", "anything", "::1", 80, True),
    ],
)
def test_matching(text: str, host: str, ip: str, port: int, matches: bool) -> None:
    pattern = parse_destination_pattern(text, port_required=True)
    assert pattern.matches(host, parse_ip(ip), port) is matches


@given(st.text(alphabet="0123456789abf.:/[]*-% ", max_size=30), st.booleans())
def test_any_text_parses_or_is_refused(text: str, port_required: bool) -> None:
    with contextlib.suppress(AddressError):
        pattern = parse_destination_pattern(text, port_required=port_required)
        assert parse_destination_pattern(str(pattern), port_required=True) == pattern
