"""The pattern list of from=."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.addresses import parse_ip
from common.errors import AddressError
from common.source_patterns import parse_source_patterns


@pytest.mark.parametrize(
    ("text", "address", "admits"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("10.0.0.0/8, 192.0.2.7", "10.9.9.9", True),
        ("10.0.0.0/8", "::a00:1", False),
        ("10.0.0.*", "10.0.0.77", True),
        ("10.0.0.*", "10.0.1.77", False),
        ("10.0.0.?", "10.0.0.7", True),
        ("10.0.0.?", "10.0.0.77", False),
        ("1*", "10.0.0.1", True),
        ("*", "2001:db8::1", True),
        ("2001:DB8:*", "2001:db8::1", True),
        ("2001:db8:*", "2001:db9::1", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("[2001:db8::1]", "2001:db8::1", True),
        ("*,!10.0.0.0/8", "10.0.0.1", False),
        ("!10.0.0.0/8,*", "10.0.0.1", False),
        ("!10.0.0.0/8,*", "192.0.2.1", True),
        ("10.0.0.0/8,!10.0.0.6?", "10.0.0.66", False),
        ("10.0.0.0/8,!10.0.0.6?", "10.0.0.6", True),
    ],
)
def test_matching(text: str, address: str, admits: bool) -> None:
    assert parse_source_patterns(text).admits(parse_ip(address)) is admits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "office.example.org",
            "'office.example.org' is a host name, and addresses are not looked up; write the"
            " address or network, such as 192.0.2.7 or 10.0.0.0/8",
        ),
        ("*.example.org", "'*.example.org' is a host name"),
        ("*.de", "'*.de' is a host name"),
        ("10.0.0.1,!cafe*", "'cafe*' is a host name"),
        ("10.0.0.1/8", "write 10.0.0.0/8 for the network or 10.0.0.1 for the one address"),
        ("256.1.1.1", "not an address or network: '256.1.1.1'"),
        ("a,", "'a' is a host name"),
        ("10.0.0.1,", "an empty item in '10.0.0.1,'; remove the comma, or write an address"),
        ("!", "an empty item in '!'"),
        (
            "!10.0.0.1",
            "'!10.0.0.1' refuses addresses and admits none; add what it admits, such as"
            " !10.0.0.1,*",
        ),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_source_patterns(text)
    assert message in str(caught.value)


def test_many_wildcards_are_matched_in_no_time() -> None:
    assert not parse_source_patterns("*1" * 200 + "?:").admits(parse_ip("1111:" * 7 + "1112"))


@given(st.text(alphabet="0123456789abz.:/*?!,-[] ", max_size=30), st.ip_addresses())
def test_any_text_parses_or_is_refused(text: str, address: object) -> None:
    with contextlib.suppress(AddressError):
        assert parse_source_patterns(text).admits(parse_ip(str(address))) in (True, False)
