"""Routes, and the table of them against a plain search."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

from common.addresses import normalise_ip, parse_ip
from common.errors import RouteError
from common.route_grammar import Route
from common.routes import RouteTable, parse_route
from tests.fuzz.outcome import outcome

TEXTS: Final = (
    "5001:80",
    "192.0.2.7:5001:80",
    "5001:192.168.1.5:22",
    "5001:intranet.lan:443/tcp",
    "192.0.2.7:5001:192.168.1.5:22,proxy-v1",
    "5001-5010:6001-6010,proxy-v2",
    "[2001:db8::/32]:5001:[::1]:80",
    "5353:53/udp,80:80,loopback",
    "10.0.0.0/8:1:2,10.1.0.0/16:1:3,1:4,[::ffff:10.1.2.3]:1:9",
    "0:80,0:81",
    " 5001 : a : 80 ",
    "5001:[fe80::1%eth0]:80",
)
SEEDS: Final = tuple(text.encode() for text in TEXTS)
WORDS: Final = (
    *(b":", b"[", b"]", b"/udp", b"/tcp", b"/8", b"/32", b"-", b",", b"0:", b"65535", b"::"),
    *(b",proxy-v1", b",proxy-v2", b",loopback", b"127.0.0.1", b"10.0.0.0/8", b"::ffff:", b"%"),
    *(b" ", "\u0661".encode(), b"a.b", b"host=", b"raw"),
)
PROBES: Final = ("192.0.2.7", "10.1.2.3", "::ffff:10.9.9.9", "::1", "2001:db8::7", "fe80::1%eth0")
WIDEST: Final = 64


def too_wide(text: str) -> bool:
    """Whether a range would take longer than thousands of other inputs."""
    ranges = re.findall(r"([0-9]+)\s*-\s*([0-9]+)", text)
    return any(int(high[-6:]) - int(low[-6:]) > WIDEST for low, high in ranges)


def prefix(route: Route) -> int:
    return -1 if route.source is None else route.source.prefixlen


def check_match(table: RouteTable, listen_port: int, probe: str, protocol: str) -> None:
    address = parse_ip(probe)
    fitting = [
        each
        for each in table.routes
        if (each.listen_port, each.protocol) == (listen_port, protocol)
        and (each.source is None or address in each.source)
    ]
    best = max(fitting, key=prefix, default=None)
    assert table.match(listen_port, probe, protocol=protocol) == best


def check_route(route: Route) -> None:
    assert parse_route(str(route)) == (route,)
    assert 0 <= route.listen_port <= 65535
    assert 1 <= route.port <= 65535
    assert route.protocol in ("tcp", "udp")
    if route.inform == "loopback" and route.host.replace(".", "").isdecimal():
        assert ip_address(route.host).is_loopback


def check(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    if too_wide(text):
        return
    table = outcome(RouteError, lambda: RouteTable.parse(text.split(",")))
    if isinstance(table, RouteError):
        assert str(table)
        return
    assert sum(len(each.routes) for each in table.listeners) == len(table.routes)
    for route in table.routes[:3]:
        check_route(route)
        if not route.listen_port:
            continue
        for probe in PROBES:
            check_match(table, route.listen_port, probe, route.protocol)
        if route.source is not None:
            for end in (route.source[0], route.source[-1]):
                check_match(table, route.listen_port, normalise_ip(str(end)), route.protocol)
