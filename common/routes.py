"""The table of routes: which one admits a connection, and which two cannot be told apart.

What a route is and how it is written: :mod:`common.route_grammar`.

A *listener* is one port to bind, with every route that shares it. Routes on port 0 (any free
port) never share: each is a listener of its own, so listeners are told apart by their index in
:attr:`RouteTable.listeners`, not by port.

The most specific source wins (:mod:`common.source_table`); a route without a source comes last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Network

from common.errors import RouteError
from common.route_grammar import Route, attach_options, parse_route
from common.source_table import SourceTable

__all__ = ["Listener", "Route", "RouteTable", "parse_route"]


class Listener:
    """One port to bind and the routes on it.

    Args:
        index: its place in :attr:`RouteTable.listeners`.
        routes: at least one; all with the same protocol and listening port.

    Raises:
        RouteError: two routes have the same source.
    """

    __slots__ = ("_table", "index", "port", "protocol", "routes")

    def __init__(self, index: int, routes: tuple[Route, ...]) -> None:
        self.index, self.routes = index, routes
        self.port, self.protocol = routes[0].listen_port, routes[0].protocol
        self._table: SourceTable[Route] = SourceTable()
        for route in routes:
            other = self._table.get(route.source)
            if other is not None:
                raise _conflict(other, route)
            self._table.put(route.source, route)

    def match(self, source_ip: str) -> Route | None:
        """Return the route that admits a connection from ``source_ip``, or ``None``.

        Args:
            source_ip: as a socket gives it; IPv4-mapped IPv6 and zones are understood.

        Raises:
            AddressError: ``source_ip`` is no address.
        """
        return self._table.match(source_ip)


class RouteTable:
    """All routes of one program.

    Args:
        routes: in the order the user gave them.

    Raises:
        RouteError: two routes cannot be told apart: same protocol, port (not 0) and source.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        grouped: dict[object, list[Route]] = {}
        for position, route in enumerate(self.routes):
            key = (route.protocol, route.listen_port) if route.listen_port else position
            grouped.setdefault(key, []).append(route)
        self.listeners = tuple(
            Listener(index, tuple(group)) for index, group in enumerate(grouped.values())
        )
        self._by_port = {(each.protocol, each.port): each for each in self.listeners if each.port}

    @classmethod
    def parse(cls, texts: Iterable[str]) -> RouteTable:
        """Return the table of the routes written in ``texts`` (ranges are expanded).

        Raises:
            RouteError: a text is no route, or two cannot be told apart.
        """
        return cls(
            route for text in attach_options(texts, "--routes") for route in parse_route(text)
        )

    @property
    def listen_ports(self) -> tuple[int, ...]:
        """The port of each listener, in the order of :attr:`listeners`; 0 may occur often."""
        return tuple(each.port for each in self.listeners)

    def match(self, listen_port: int, source_ip: str, *, protocol: str = "tcp") -> Route | None:
        """Return the route that admits ``source_ip`` on ``listen_port``, or ``None``.

        Args:
            listen_port: as in the routes, not 0: use :meth:`Listener.match` for those.
            source_ip: as a socket gives it.
            protocol: the listener's.

        Raises:
            AddressError: ``source_ip`` is no address.
        """
        listener = self._by_port.get((protocol, listen_port))
        return None if listener is None else listener.match(source_ip)


def _conflict(one: Route, two: Route) -> RouteError:
    place = f"port {two.listen_port} from {two.source or 'anywhere'}"
    if one == two:
        return RouteError(
            f"route {two.text or str(two)!r} says again what {one.text or str(one)!r} says"
            f" ({place}); leave one out"
        )
    elsewhere = replace(two, listen_port=two.listen_port % 65535 + 1)
    narrower = replace(two, source=IPv4Network("192.0.2.7"))
    return RouteError(
        f"routes {one.text or str(one)!r} and {two.text or str(two)!r} cannot be told apart: both"
        f" take {place}; give one another port, such as {elsewhere}, or another source, such as"
        f" {narrower}"
    )
