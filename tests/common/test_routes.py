"""The table: the most specific source wins, and what cannot be told apart is an error."""

from __future__ import annotations

import time
from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import AddressError, RouteError
from common.routes import Route, RouteTable


def matched(table: RouteTable, port: int, source: str) -> str | None:
    route = table.match(port, source)
    return None if route is None else route.text


TABLE = [
    "80:1",
    "10.0.0.0/8:80:2",
    "10.1.0.0/16:80:3",
    "10.1.2.3:80:4",
    "[2001:db8::/32]:80:5",
    "[2001:db8::7]:80:6",
    "10.0.0.0/8:81:7",
]


@pytest.mark.parametrize(
    ("port", "source", "route"),
    [
        (80, "192.0.2.1", "80:1"),
        (80, "10.2.0.1", "10.0.0.0/8:80:2"),
        (80, "10.1.0.1", "10.1.0.0/16:80:3"),
        (80, "10.1.2.3", "10.1.2.3:80:4"),
        (80, "::ffff:10.1.2.3", "10.1.2.3:80:4"),
        (80, "2001:db8::1", "[2001:db8::/32]:80:5"),
        (80, "2001:db8::7", "[2001:db8::7]:80:6"),
        (80, "2001:db9::7", "80:1"),
        (80, "fe80::1%eth0", "80:1"),
        (81, "10.0.0.1", "10.0.0.0/8:81:7"),
        (81, "192.0.2.1", None),
        (81, "::a00:1", None),  # the same number as 10.0.0.1, in the other family
        (82, "10.0.0.1", None),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_the_most_specific_source_wins(
    port: int, source: str, route: str | None, order: int
) -> None:
    assert matched(RouteTable.parse(TABLE[::order]), port, source) == route


def test_everybody_of_one_family_is_more_specific_than_anybody() -> None:
    table = RouteTable.parse(["80:1", "0.0.0.0/0:80:2"])
    assert matched(table, 80, "192.0.2.1") == "0.0.0.0/0:80:2"
    assert matched(table, 80, "2001:db8::1") == "80:1"


def test_a_source_that_is_no_address() -> None:
    with pytest.raises(AddressError, match="not an IP address: 'localhost'"):
        RouteTable.parse(["80:80"]).match(80, "localhost")


def test_listeners_are_in_the_order_of_the_routes() -> None:
    table = RouteTable.parse(["81:1", "80:1", "10.0.0.0/8:81:2", "1-2:3-4"])
    assert table.listen_ports == (81, 80, 1, 2)
    assert [listener.index for listener in table.listeners] == [0, 1, 2, 3]
    assert [len(listener.routes) for listener in table.listeners] == [2, 1, 1, 1]
    assert len(table.routes) == 5


def test_each_port_zero_is_a_listener_of_its_own() -> None:
    table = RouteTable.parse(["0:80", "0:80", "10.0.0.0/8:0:81"])
    assert table.listen_ports == (0, 0, 0)
    found = [listener.match("192.0.2.1") for listener in table.listeners]
    assert [None if route is None else route.port for route in found] == [80, 80, None]
    assert table.match(0, "192.0.2.1") is None


def test_the_protocols_do_not_meet() -> None:
    tcp, udp = Route(None, 53, "a", 53), Route(None, 53, "b", 53, "udp")
    table = RouteTable([tcp, udp])
    assert table.match(53, "192.0.2.1") is tcp
    assert table.match(53, "192.0.2.1", protocol="udp") is udp


def test_an_empty_table_matches_nothing() -> None:
    assert RouteTable([]).match(80, "192.0.2.1") is None


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            ["5001:80", "5001:db:81"],
            "routes '5001:80' and '5001:db:81' cannot be told apart: both take port 5001 from"
            " anywhere; give one another port, such as 5002:db:81, or another source, such as"
            " 192.0.2.7:5001:db:81",
        ),
        (
            ["10.0.0.0/8:5001:80", "[::ffff:10.0.0.0/104]:5001:81"],
            "both take port 5001 from 10.0.0.0/8",
        ),
        (["65535:80", "65535:81"], "such as 1:127.0.0.1:81"),
        (
            ["80:80", "80:127.0.0.1:80"],
            "route '80:127.0.0.1:80' says again what '80:80' says (port 80 from anywhere); leave"
            " one out",
        ),
        (
            ["1-5:1-5", "5:6"],
            "routes '1-5:1-5' and '5:6' cannot be told apart: both take port 5 from anywhere",
        ),
    ],
)
def test_overlaps(texts: list[str], message: str) -> None:
    with pytest.raises(RouteError) as caught:
        RouteTable.parse(texts)
    assert message in str(caught.value)


def naive_match(routes: list[Route], port: int, source: str) -> Route | None:
    address = ip_address(source)
    best, best_length = None, -2
    for route in routes:
        if route.listen_port != port:
            continue
        if route.source is None:
            length = -1
        elif route.source.version == address.version and address in route.source:
            length = route.source.prefixlen
        else:
            continue
        if length > best_length:
            best, best_length = route, length
    return best


# Few bits, so that the networks nest and the addresses fall into them.
v4_networks = st.builds(
    lambda byte, length: IPv4Network(((10 << 24) | (byte << 16), length), strict=False),
    st.integers(0, 255),
    st.integers(0, 32),
)
v6_networks = st.builds(
    lambda byte, length: IPv6Network(((0x2001 << 112) | (byte << 96), length), strict=False),
    st.integers(0, 255),
    st.integers(0, 128),
)
sources = st.none() | v4_networks | v6_networks
keys = st.tuples(st.integers(1, 2), sources)
asked = st.builds("10.{}.0.{}".format, st.integers(0, 255), st.integers(0, 1)) | st.builds(
    "2001:{:x}::{}".format, st.integers(0, 255), st.integers(0, 1)
)


@given(table=st.lists(keys, unique=True, max_size=12), port=st.integers(1, 3), source=asked)
def test_as_a_naive_model(
    table: list[tuple[int, IPv4Network | IPv6Network | None]], port: int, source: str
) -> None:
    routes = [Route(network, listen, "h", 1 + n) for n, (listen, network) in enumerate(table)]
    assert RouteTable(routes).match(port, source) == naive_match(routes, port, source)


@given(st.lists(keys, max_size=6))
def test_a_table_is_made_exactly_when_all_can_be_told_apart(
    table: list[tuple[int, IPv4Network | IPv6Network | None]],
) -> None:
    routes = [Route(network, listen, "h", 1 + n) for n, (listen, network) in enumerate(table)]
    if len(set(table)) == len(table):
        assert RouteTable(routes).routes == tuple(routes)
    else:
        with pytest.raises(RouteError, match="cannot be told apart"):
            RouteTable(routes)


def test_a_match_does_not_walk_the_routes() -> None:
    """With 10,000 routes, 2,000 matches take some 10 ms; a walk would take 20 s."""
    table = RouteTable(
        [Route(IPv4Network((10 << 24) + n), 80, "h", 1 + n) for n in range(10_000)]
        + [Route(None, 80, "h", 9)]
    )
    start = time.perf_counter()
    for n in range(2_000):
        assert table.match(80, f"10.0.{n % 8}.{n % 256}") is not None
    assert time.perf_counter() - start < 2.0
