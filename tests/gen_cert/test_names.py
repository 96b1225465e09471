"""Names and addresses for a certificate."""

from __future__ import annotations

import contextlib
import ipaddress
import re

import pytest
from cryptography import x509
from hypothesis import example, given
from hypothesis import strategies as st

from common.errors import SettingError
from gen_cert.names import default_names, parse_dns, parse_ip, parse_names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("localhost", "localhost"),
        ("Relay.Example.COM", "relay.example.com"),
        ("relay.example.com.", "relay.example.com"),
        ("*.example.com", "*.example.com"),
        ("my_relay", "my_relay"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("*.BÜCHER.example", "*.xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("a" * 63 + ".b", "a" * 63 + ".b"),
        ("1.example", "1.example"),
    ],
)
def test_dns_names(text: str, name: str) -> None:
    assert parse_dns(text) == name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is not 1 to 63 letters"),
        (".", "'' is not 1 to 63 letters"),
        ("a..b", "'' is not 1 to 63 letters"),
        ("a" * 64, "is not 1 to 63 letters"),
        ("-a.example", "'-a' is not 1 to 63"),
        ("a b", "'a b' is not 1 to 63"),
        ("http://a", "'http://a' is not 1 to 63"),
        ("a:4433", "'a:4433' is not 1 to 63"),
        ("a\n", r"'a\\n' is not 1 to 63"),
        (".".join(["abc"] * 64), "it has more than 253 characters"),
        ("ä" * 300, "it has more than 253 characters|is not 1 to 63"),
        ("ä" * 64 + ".example", "it cannot be encoded"),
        ("127.0.0.1", "it is an address; use --ip 127.0.0.1"),
        ("::1", "it is an address; use --ip ::1"),
        ("[::1]", "it is an address; use --ip"),
        ("300.1.1.1", "it ends in a number"),
        ("*", "a wildcard stands for the whole first label"),
        ("w*.example.com", "a wildcard stands for the whole first label"),
        ("a.*.example.com", "a wildcard stands for the whole first label"),
        ("*.com", "clients match no wildcard that wide"),
        ("straße.example", "programs differ in how they encode it"),
    ],
)
def test_bad_dns_names(text: str, reason: str) -> None:
    with pytest.raises(SettingError, match=reason) as caught:
        parse_dns(text)
    assert str(caught.value).startswith(f"--dns: {text[:80]!r}"[:60])


@pytest.mark.parametrize(
    ("text", "ip"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("[2001:DB8::0:7]", "2001:db8::7")],
)
def test_ips(text: str, ip: str) -> None:
    assert parse_ip(text) == ipaddress.ip_address(ip)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("localhost", "is not an IP address; write one such as 203.0.113.7"),
        ("10.0.0.0/8", "is not an IP address"),
        ("127.0.0.1:4433", "is not an IP address"),
        ("010.0.0.1", "is not an IP address"),
        ("fe80::1%eth0", "has a zone"),
    ],
)
def test_bad_ips(text: str, reason: str) -> None:
    with pytest.raises(SettingError, match=f"^--ip: {re.escape(repr(text))} {reason}"):
        parse_ip(text)


def test_names_stand_once_and_in_order() -> None:
    names = parse_names(["b.example", "A.example", "B.example."], ["::1", "0::1", "127.0.0.1"])
    assert str(names) == "b.example, a.example, ::1, 127.0.0.1"


def test_default_names() -> None:
    assert str(default_names("House")) == "localhost, house, 127.0.0.1, ::1"
    assert str(default_names("localhost")) == "localhost, 127.0.0.1, ::1"
    assert str(default_names("the house!")) == "localhost, 127.0.0.1, ::1"


@given(st.text() | st.from_regex(r"[a-zß-ü*.\-\[\]:0-9]{1,80}", fullmatch=True))
@example("xn--" + "9" * 60)
@example("\ud800.example")
@example("。.example")
def test_any_text_parses_to_a_name_for_x509_or_raises(text: str) -> None:
    with contextlib.suppress(SettingError):
        parse_ip(text)
    with contextlib.suppress(SettingError):
        name = parse_dns(text)
        assert x509.DNSName(name).value == name == parse_dns(name)
