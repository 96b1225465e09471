"""entry-point explain: routes in words."""

from __future__ import annotations

import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from common.errors import RouteError
from common.routes import Route, RouteTable
from entry_point.explain import ExplainRow, explain, render


def rows(*texts: str, bind: str | None = None) -> list[ExplainRow]:
    return explain(RouteTable.parse(texts).routes, bind=bind)


def row(text: str, bind: str | None = None) -> ExplainRow:
    (only,) = rows(text, bind=bind)
    return only


ALL = "of this machine, on all its addresses"


@pytest.mark.parametrize(
    ("text", "who", "dials"),
    [
        ("5001:5002", f"anybody may connect to port 5001 {ALL}", "127.0.0.1:5002"),
        ("192.0.2.7:5001:5002", f"only 192.0.2.7 may connect to port 5001 {ALL}", "127.0.0.1:5002"),
        (
            "[2001:db8::/32]:5001:db:80",
            f"only addresses in 2001:db8::/32 may connect to port 5001 {ALL}",
            "db:80",
        ),
        (
            "0.0.0.0/0:5001:[2001:db8::2]:80",
            f"anybody with an IPv4 address may connect to port 5001 {ALL}",
            "[2001:db8::2]:80",
        ),
        (
            "5001-5003:10.0.0.1:6001-6003",
            f"anybody may connect to ports 5001 to 5003 {ALL}",
            "10.0.0.1:6001 to 6003, port by port",
        ),
        ("0:80", f"anybody may connect to a free port (shown at start) {ALL}", "127.0.0.1:80"),
    ],
)
def test_who_and_what(text: str, who: str, dials: str) -> None:
    found = row(text)
    assert (found.text, found.who) == (text, who)
    assert found.dials == f"the reverse-proxy dials {dials}"


def test_bound_to_one_address() -> None:
    assert row("5001:5001", bind="127.0.0.1").who == (
        "anybody may connect to port 5001 of this machine, address 127.0.0.1"
    )


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("5001:80", ["127.0.0.1 is the machine the reverse-proxy runs on, not this one"]),
        ("5001:[::1]:80", ["::1 is the machine the reverse-proxy runs on, not this one"]),
        ("5001:localhost:80", ["localhost is the machine the reverse-proxy runs on, not this one"]),
        ("5001:db:80", ["the name db is resolved at the reverse-proxy, not here"]),
        ("5001:10.0.0.1:80", []),
    ],
)
def test_notes(text: str, notes: list[str]) -> None:
    assert list(row(text).notes) == notes


PRIVILEGED = (
    "port 80 is below 1024: listening there takes root or CAP_NET_BIND_SERVICE on most systems"
)


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("5001:5001", []),
        ("80:5001", [PRIVILEGED]),
        ("80-81:5001-5002", [PRIVILEGED]),
        ("1024:5001", []),
        (
            "5001:169.254.169.254:80",
            [
                "169.254.169.254 is the cloud's metadata service: the reverse-proxy refuses it"
                " unless its --allow names 169.254.169.254"
            ],
        ),
        (
            "5001:[fe80::1%eth0]:80",
            [
                "fe80::1%eth0 is link-local: the reverse-proxy refuses it unless its --allow names"
                " fe80::1"
            ],
        ),
        (
            "5001:db:5432",
            [
                "anybody who can reach this machine can reach PostgreSQL (port 5432); to admit one"
                " network only, write 192.0.2.0/24:5001:db:5432"
            ],
        ),
        (
            "6379:db:9999",
            [
                "anybody who can reach this machine can reach Redis (port 6379); to admit one"
                " network only, write 192.0.2.0/24:6379:db:9999"
            ],
        ),
        (
            "0.0.0.0/0:5001-5003:20-22",
            [
                "anybody who can reach this machine can reach FTP (port 21); to admit one network"
                " only, write a narrower source"
            ],
        ),
        ("10.0.0.0/8:5001:22", []),
    ],
)
def test_warnings(text: str, warnings: list[str]) -> None:
    assert list(row(text).warnings) == warnings


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1", "localhost"])
def test_on_loopback_nobody_else_can_connect(bind: str) -> None:
    assert row("5001:5432", bind=bind).warnings == ()
    assert row("5001:5432", bind="192.0.2.7").warnings != ()


def test_more_specific_sources() -> None:
    found = rows("5001:80", "10.0.0.0/8:5001:81", "10.1.2.3:5001:82", "5002:80")
    assert [each.warnings for each in found] == [
        (
            "not for 10.0.0.0/8: 10.0.0.0/8:5001:81 is more specific",
            "not for 10.1.2.3/32: 10.1.2.3:5001:82 is more specific",
        ),
        ("not for 10.1.2.3/32: 10.1.2.3:5001:82 is more specific",),
        (),
        (),
    ]


@pytest.mark.parametrize(
    ("wide", "others"),
    [
        ("10.0.0.0/8:5001:80", ["10.0.0.0/9:5001:81", "10.128.0.0/9:5001:82"]),
        ("5001:80", ["0.0.0.0/0:5001:81", "[::/0]:5001:82"]),
    ],
)
def test_a_route_that_is_never_used(wide: str, others: list[str]) -> None:
    assert rows(wide, *others)[0].warnings == (
        f"never used: {', '.join(others)} take every source that it admits",
    )


def test_ports_zero_stand_alone() -> None:
    assert [each.text for each in rows("0:80", "0:80")] == ["0:80", "0:80"]


def test_overlaps_are_errors() -> None:
    route = Route(None, 5001, "db", 80)
    with pytest.raises(RouteError):
        explain([route, Route(None, 5001, "db", 81)])
    assert explain([route])[0].text == "5001:db:80"


def shown(found: list[ExplainRow], width: int, terminal: bool = False) -> str:
    file = io.StringIO()
    render(found, Console(file=file, width=width, force_terminal=terminal))
    return file.getvalue()


def test_as_plain_text() -> None:
    assert shown(rows("22:22", "10.0.0.0/8:5001:[2001:db8::2]:80"), 80) == (
        "22:22\n"
        "  who     anybody may connect to port 22 of this machine, on all its addresses\n"
        "  dials   the reverse-proxy dials 127.0.0.1:22\n"
        "  note    127.0.0.1 is the machine the reverse-proxy runs on, not this one\n"
        "  warning port 22 is below 1024: listening there takes root or\n"
        "          CAP_NET_BIND_SERVICE on most systems\n"
        "  warning anybody who can reach this machine can reach SSH (port 22); to admit\n"
        "          one network only, write 192.0.2.0/24:22:22\n"
        "\n"
        "10.0.0.0/8:5001:[2001:db8::2]:80\n"
        "  who     only addresses in 10.0.0.0/8 may connect to port 5001 of this machine,\n"
        "          on all its addresses\n"
        "  dials   the reverse-proxy dials [2001:db8::2]:80\n"
    )


def test_on_a_terminal_it_has_colours() -> None:
    assert "\x1b[33mwarning" in shown(rows("22:22"), 80, terminal=True)


@pytest.mark.parametrize("width", [1, 30, 200])
def test_any_width(width: int) -> None:
    assert "[2001:db8::2]:80" in shown(rows("[2001:db8::/32]:22:[2001:db8::2]:80"), width)


parts = st.sampled_from(["0", "80", "5001", "1-3", "[::1]", "10.0.0.0/8", "db", "169.254.1.1"])


@given(st.lists(st.lists(parts, min_size=2, max_size=4).map(":".join), max_size=4))
def test_whatever_parses_can_be_explained(texts: list[str]) -> None:
    with contextlib.suppress(RouteError):
        table = RouteTable.parse(texts)
        assert shown(explain(table.routes), 80).count("  dials ") <= len(texts)
