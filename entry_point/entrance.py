"""The entrance: listens for sources, asks the route table, and tells what became of each."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from common import frames
from common.addresses import HostPort
from common.datagram_port import DatagramPort
from common.errors import RouteError
from common.listener import Listener
from common.logs import event
from common.outcome import Outcome
from common.routes import Listener as ListenerRoutes
from common.routes import RouteTable
from common.sockets import bind_udp, close_with_reset, end_with_reset, listen
from common.switchboard import Caller
from entry_point.metrics import Metrics
from entry_point.source import Source

log = logging.getLogger(__name__)


class Entrance:
    """The listening ports of a route table.

    Args:
        table: who may connect where.
        bind: the address to listen on; empty or ``*`` for all.
        group: the group of the reverse-proxies that are meant.
        serve: gives a source, or a port of datagrams, a channel.
        udp_idle_s: seconds after which a flow without datagrams is over.

    Raises:
        SettingError: a port cannot be bound; none is left bound then.
    """

    def __init__(
        self,
        table: RouteTable,
        bind: str,
        *,
        metrics: Metrics,
        group: str,
        serve: Callable[[Caller], None],
        udp_idle_s: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._metrics = metrics
        self._group = group
        self._serve = serve
        self._on_end = Reporter(metrics).ended
        self._udp_idle_s = udp_idle_s
        self._listeners: list[Listener | DatagramPort] = []
        try:
            for routes in table.listeners:
                self._listen(routes, bind)
        except BaseException:
            self.close()
            raise

    @property
    def addresses(self) -> list[str]:
        """What is bound, in the order of the routes; UDP ports end with ``/udp``."""
        return [
            f"{each.address}/udp" if isinstance(each, DatagramPort) else str(each.address)
            for each in self._listeners
        ]

    @property
    def flows(self) -> int:
        """Flows of datagrams there are."""
        return sum(each.flows for each in self._listeners if isinstance(each, DatagramPort))

    def close(self) -> None:
        """Stop listening."""
        for each in self._listeners:
            each.close()

    def _listen(self, routes: ListenerRoutes, bind: str) -> None:
        if routes.protocol == "udp":
            self._listeners.extend(self._listen_udp(routes, bind))
            return
        sock = listen(bind, routes.port)
        end_with_reset(sock)
        port: int = sock.getsockname()[1]

        def accept(sock: socket.socket, address: HostPort) -> None:
            self._accept(routes, port, sock, address)

        self._listeners.append(Listener(self._loop, sock, accept))

    def _listen_udp(self, routes: ListenerRoutes, bind: str) -> list[DatagramPort]:
        if len(routes.routes) > 1:
            one, two, *_ = routes.routes
            raise RouteError(
                f"routes {one.text!r} and {two.text!r} share UDP port {routes.port}, which can lead"
                " to one destination only; give one of them another port"
            )
        (route,) = routes.routes
        sock = bind_udp(bind, routes.port)

        def ask() -> bytes:
            return frames.encode_open(
                frames.Open(self._group, "udp", route.host, route.port, "", 0)
            )

        return [
            DatagramPort(
                self._loop,
                sock,
                admits=lambda host: routes.match(host) is not None,
                ask=ask,
                open_channel=self._serve,
                idle_s=self._udp_idle_s,
                counts=self._metrics,
                name=str(route),
            )
        ]

    def _accept(
        self, routes: ListenerRoutes, port: int, sock: socket.socket, address: HostPort
    ) -> None:
        route = routes.match(address.host)
        if route is not None:
            self._metrics.sources_accepted += 1
            self._serve(Source(self._loop, sock, address, route, self._group, self._on_end))
            return
        self._metrics.sources_rejected += 1
        close_with_reset(sock)
        event(
            log,
            logging.WARNING,
            "no route admits this source",
            budget_key=f"no route {address.host}",
            source=str(address),
            port=port,
        )


class Reporter:
    """Counts and logs the end of every stream, one line each."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def ended(self, source: Source, outcome: Outcome, detail: str) -> None:
        """Tell what became of ``source``."""
        metrics = self._metrics
        metrics.bytes_sent += source.sent
        metrics.bytes_received += source.received
        if outcome is Outcome.FINISHED:
            metrics.streams_finished += 1
        else:
            metrics.streams_failed += 1
        event(
            log,
            logging.INFO if outcome is Outcome.FINISHED else logging.WARNING,
            "stream",
            source=str(source.address),
            route=str(source.route),
            destination=f"{source.route.host}:{source.route.port}",
            outcome=outcome.value,
            sent=source.sent,
            received=source.received,
            seconds=source.seconds,
            detail=detail or None,
        )
