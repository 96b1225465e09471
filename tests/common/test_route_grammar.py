"""One route: every form, and what is said about what is none."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.addresses import IPNetwork, normalise_ip, parse_network
from common.errors import RouteError
from common.route_grammar import Route, parse_route


def net(text: str) -> IPNetwork:
    return ip_network(text)


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("5001:5002", Route(None, 5001, "127.0.0.1", 5002)),
        ("0:5002", Route(None, 0, "127.0.0.1", 5002)),
        ("192.0.2.7:5001:5002", Route(net("192.0.2.7/32"), 5001, "127.0.0.1", 5002)),
        ("10.0.0.0/8:5001:5002", Route(net("10.0.0.0/8"), 5001, "127.0.0.1", 5002)),
        ("[2001:db8::7]:5001:5002", Route(net("2001:db8::7/128"), 5001, "127.0.0.1", 5002)),
        ("[2001:db8::/32]:5001:5002", Route(net("2001:db8::/32"), 5001, "127.0.0.1", 5002)),
        ("[2001:db8::]/32:5001:5002", Route(net("2001:db8::/32"), 5001, "127.0.0.1", 5002)),
        ("[::ffff:192.0.2.7]:1:2", Route(net("192.0.2.7/32"), 1, "127.0.0.1", 2)),
        ("5001:10.1.2.3:5002", Route(None, 5001, "10.1.2.3", 5002)),
        ("5001:db.internal:5002", Route(None, 5001, "db.internal", 5002)),
        ("5001:[::1]:5002", Route(None, 5001, "::1", 5002)),
        ("5001:[fe80::1%eth0]:5002", Route(None, 5001, "fe80::1%eth0", 5002)),
        ("192.0.2.7:5001:10.1.2.3:5002", Route(net("192.0.2.7/32"), 5001, "10.1.2.3", 5002)),
        ("[::1]:5001:[::2]:5002", Route(net("::1/128"), 5001, "::2", 5002)),
        ("10.0.0.0/8:0:Db:5002/tcp", Route(net("10.0.0.0/8"), 0, "db", 5002)),
        ("5001:5002/TCP", Route(None, 5001, "127.0.0.1", 5002)),
        ("  5001 : db : 5002 / tcp ", Route(None, 5001, "db", 5002)),
    ],
)
def test_forms(text: str, route: Route) -> None:
    assert parse_route(text) == (route,)
    assert parse_route(text)[0].text == text.strip()


@pytest.mark.parametrize(
    ("text", "first", "last", "count"),
    [
        ("5001-5010:6001-6010", "5001:127.0.0.1:6001", "5010:127.0.0.1:6010", 10),
        ("10.0.0.0/8:1-2:3-4", "10.0.0.0/8:1:127.0.0.1:3", "10.0.0.0/8:2:127.0.0.1:4", 2),
        ("1-2:db:3-4", "1:db:3", "2:db:4", 2),
        ("[::1]:1 - 2:[::2]:3 - 4/tcp", "[::1]:1:[::2]:3", "[::1]:2:[::2]:4", 2),
        ("7-7:8", "7:127.0.0.1:8", "7:127.0.0.1:8", 1),
        ("1-65535:1-65535", "1:127.0.0.1:1", "65535:127.0.0.1:65535", 65535),
    ],
)
def test_ranges(text: str, first: str, last: str, count: int) -> None:
    routes = parse_route(text)
    assert (str(routes[0]), str(routes[-1]), len(routes)) == (first, last, count)
    assert {route.text for route in routes} == {text}


FORMS = "port:port, source:port:port, port:host:port or source:port:host:port"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"'': not a route; write {FORMS}, such as 5001:5001"),
        ("80", f"'80': not a route; write {FORMS}, such as 80:80"),
        ("80/tcp", "'80/tcp': not a route"),
        ("80:", "part 2 is empty"),
        ("::", "part 1 is empty"),
        (
            "80:90:100",
            "'80:90:100': three ports; leave one out, as in 80:100, or name a host, as in"
            " 80:127.0.0.1:100",
        ),
        (
            "2001:db8::7:5001:5001",
            f"6 parts, a route has two to four; write {FORMS}, with IPv6 in brackets:"
            " [2001:db8::7]:5001:[::1]:5001",
        ),
        ("[::1:80:80", f"brackets that do not pair up; write {FORMS}"),
        ("::1]:80:80", "brackets that do not pair up"),
        ("[[::1]]:80:80", "brackets that do not pair up"),
        ("80:70000", "'80:70000': not a port: '70000'; write a number from 1 to 65535"),
        ("80:0", "not a port: '0'; write a number from 1 to 65535"),
        ("-1:80", "not a range of ports: '-1'; write one such as 5001-5010"),
        ("0-5:80-85", "not a port: '0'"),
        ("9-5:1-5", "the range '9-5' runs backwards; write 5-9"),
        (
            "5001-5010:6001",
            "'5001-5010:6001': 10 ports to listen on, 1 port to forward to; write"
            " 5001-5010:6001-6010",
        ),
        (
            "10.0.0.0/8:5001-5003:[::1]:7-8",
            "3 ports to listen on, 2 ports to forward to; write 5001-5003:7-9",
        ),
        ("80:7-8", "1 port to listen on, 2 ports to forward to; write 80:7"),
        ("10.0.0.5/8:80:80", "write 10.0.0.0/8 for the network or 10.0.0.5 for the one address"),
        (
            "example.org:80:80",
            "the source 'example.org' is a host name; write an address or network, such as"
            " 192.0.2.7 or 10.0.0.0/8",
        ),
        ("256.1.1.1:80:80", "not an address or network: '256.1.1.1'"),
        ("*:80:80", "not an address or network: '*'"),
        ("80:10.0.0.0/8:80", "the destination '10.0.0.0/8' is a network; write one address"),
        ("80:1.2.3:80", "not an IPv4 address: '1.2.3'"),
        ("80:a b:80", "not a host name or address: 'a b'"),
        ("192.0.2.7:db:80", "not a port: 'db'"),
        ("192.0.2.7:80", "not a port: '192.0.2.7'"),
        (
            "53:53,fast",
            "'53:53,fast': unknown option 'fast'; known are proxy-v1, proxy-v2, loopback",
        ),
        ("53:53/udp,proxy-v2", "'53:53/udp,proxy-v2': 'proxy-v2' is not for UDP; leave it out"),
        ("53:53,proxy-v1,proxy-v2", "one option at a time, not proxy-v1 and proxy-v2"),
        ("53:10.0.0.1:53,loopback", "loopback works for destinations in 127.0.0.0/8 only, and"),
        ("53:53/sctp", "'53:53/sctp': unknown protocol 'sctp'; write 53:53 or 53:53/udp"),
        ("53:53/", "unknown protocol ''"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(RouteError) as caught:
        parse_route(text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(repr(text))


def test_udp() -> None:
    (route,) = parse_route("10.0.0.0/8:53:53/udp")
    assert route.protocol == "udp"
    assert str(route) == "10.0.0.0/8:53:127.0.0.1:53/udp"


@given(
    st.text(alphabet="0123456789abcdef.:/[]%-tcpu ", max_size=40)
    | st.lists(st.sampled_from(["80", "1-2", "::1", "[::1]", "10.0.0.0/8", "a.b", "/tcp", ""])).map(
        ":".join
    )
)
def test_any_text_parses_or_is_refused(text: str) -> None:
    with contextlib.suppress(RouteError):
        assert parse_route(text)


addresses = st.ip_addresses().map(lambda address: normalise_ip(str(address)))


@st.composite
def networks(draw: st.DrawFn) -> IPNetwork:
    address: IPv4Address | IPv6Address = draw(st.ip_addresses())
    length = draw(st.integers(0, address.max_prefixlen))
    return parse_network(str(ip_network((address, length), strict=False)))


@given(
    source=st.none() | networks(),
    listen=st.integers(0, 65535),
    host=addresses | st.sampled_from(["db.internal", "localhost", "a", "x.y."]),
    port=st.integers(1, 65535),
)
def test_round_trip(source: IPNetwork | None, listen: int, host: str, port: int) -> None:
    route = Route(source, listen, host, port)
    assert parse_route(str(route)) == (route,)
    assert str(parse_route(str(route))[0]) == str(route)
