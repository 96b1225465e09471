"""Visitors of host names: HTTP in plain text, or with its TLS ended here."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from common import frames
from common.addresses import HostPort
from common.errors import PeerError
from common.logs import event
from common.outcome import Outcome
from common.refusals import Refusal
from common.tls import agree
from relay_server.admission import source_of
from relay_server.http import pages
from relay_server.http.certificates import Certificates
from relay_server.http.exchange import Customer, Exchange
from relay_server.http.visitor import HttpVisitor
from relay_server.http.wires import PlainWire, TlsWire, Wire
from relay_server.metrics import Metrics
from relay_server.public.budget import PER_SOURCE, Budget
from relay_server.public.claims import Claim, Claims
from relay_server.public.tenant import Tenant
from relay_server.public.visitor import visit
from relay_server.turns import Turns

log = logging.getLogger(__name__)

HANDSHAKE_S: Final = 10.0
SWEEP_S: Final = 1.0
_ALL_NAMES: Final = "names"


class NameExchange(Exchange):
    """An exchange with the service of a claim, which another may take the place of as we wait."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        claim: Claim,
        address: HostPort,
        entered_at: HostPort,
        first: bytes,
        customer: Customer,
        on_over: Callable[[], None],
    ) -> None:
        super().__init__(
            loop,
            lambda: frames.encode_visit(visit(self.claim, address, entered_at)),
            first,
            customer,
            on_over,
        )
        self.claim = claim


@dataclass(frozen=True, slots=True)
class Published:
    """The service of one claim, as the HTTP edge sees it."""

    claim: Claim
    names: Names

    @property
    def host_header(self) -> bytes:
        """What the service is told as Host; empty: what the visitor sent."""
        return self.claim.host_header.encode("ascii", "replace")

    def open(
        self, address: HostPort, entered_at: HostPort, first: bytes, customer: Customer
    ) -> Exchange | pages.Page:
        """Begin a stream to the service that says ``first``; or return why not."""
        return self.names.open(self.claim, address, entered_at, first, customer)


class Names:
    """All connections to host names.

    Args:
        certificates: where TLS is ended here; ``None``: it is not.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        claims: Claims,
        tenant_of: Callable[[Claim], Tenant],
        budget: Budget[Claim],
        certificates: Certificates | None,
        metrics: Metrics,
    ) -> None:
        self._loop = loop
        self._claims = claims
        self._tenant_of = tenant_of
        self._budget = budget
        # Connections, whatever they ask for. A proxy that many stand behind is a source like
        # another, so it may have more of them than of one exposure; but never most of them.
        self._places: Budget[str] = Budget(
            budget.in_all, budget.in_all, max(PER_SOURCE, budget.in_all // 8)
        )
        self._certificates = certificates
        self._turns = Turns()
        self._metrics = metrics
        self._visitors: set[HttpVisitor] = set()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._looked_at = loop.time()  # at the files of the certificates
        self._sweeping: asyncio.TimerHandle | None = None
        self._stopping = False

    def __len__(self) -> int:
        return len(self._visitors) + len(self._handshakes)

    @property
    def ends_tls(self) -> bool:
        """Whether TLS is ended here."""
        return self._certificates is not None

    def admit(self, address: HostPort) -> Refusal | None:
        """Count a connection in, to be taken over at once; or say why there is no room."""
        return self._places.admit(_ALL_NAMES, source_of(address.host))

    def _leave(self, address: HostPort) -> None:
        self._places.leave(_ALL_NAMES, source_of(address.host))

    def accept(self, sock: socket.socket, address: HostPort, entered_at: HostPort) -> None:
        """Take over a connection in plain text that was admitted."""
        self._begin(PlainWire(sock), address, entered_at, "http", None)

    def accept_tls(
        self, sock: socket.socket, address: HostPort, entered_at: HostPort, sni: str | None
    ) -> None:
        """Take over a connection with TLS that was admitted; its first bytes wait to be read."""
        now = self._loop.time()
        if self._certificates is not None and now - self._looked_at >= SWEEP_S:
            self._looked_at = now
            self._certificates.refresh()
        task = self._loop.create_task(self._end_tls(sock, address, entered_at, sni))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    def open(
        self,
        claim: Claim,
        address: HostPort,
        entered_at: HostPort,
        first: bytes,
        customer: Customer,
    ) -> Exchange | pages.Page:
        """Begin a stream for a visitor; or return why not."""
        source = source_of(address.host)
        refusal = self._budget.admit(claim, source)
        if refusal is not None:
            self._metrics.visitors_rejected += 1
            return pages.busy(claim.host)

        def over() -> None:
            self._budget.leave(claim, source)
            self._metrics.visitor_bytes_sent += exchange.sent
            self._metrics.visitor_bytes_received += exchange.received

        exchange = NameExchange(self._loop, claim, address, entered_at, first, customer, over)
        self._tenant_of(claim).open(exchange, claim.hold_s)
        return exchange

    def stop(self) -> None:
        """Drain: end the connections that stand between two requests."""
        self._stopping = True
        for task in list(self._handshakes):
            task.cancel()
        for visitor in list(self._visitors):
            visitor.stop()

    def abort(self) -> None:
        """End every connection now."""
        for visitor in list(self._visitors):
            visitor.abort()
        if self._sweeping is not None:
            self._sweeping.cancel()

    async def _end_tls(
        self, sock: socket.socket, address: HostPort, entered_at: HostPort, sni: str | None
    ) -> None:
        assert self._certificates is not None  # noqa: S101 - the caller has asked
        wire = TlsWire(self._certificates.context(sni), sock, server=True)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await self._turns.take()
                await agree(wire)
        except BaseException as error:
            wire.close()
            self._leave(address)
            if not isinstance(error, PeerError | TimeoutError):
                raise
            event(
                log,
                logging.INFO,
                "no TLS with a visitor",
                budget_key="no TLS with a visitor",
                visitor=str(address),
                reason=str(error) or f"not agreed within {HANDSHAKE_S:g} s",
            )
            return
        self._begin(wire, address, entered_at, "https", sni)

    def _begin(
        self,
        wire: Wire,
        address: HostPort,
        entered_at: HostPort,
        scheme: Literal["http", "https"],
        sni: str | None,
    ) -> None:
        if self._stopping:
            wire.close()
            self._leave(address)
            return
        self._metrics.visitors_accepted += 1
        visitor = HttpVisitor(
            self._loop, wire, address, entered_at, scheme, sni, self._find, self._over
        )
        self._visitors.add(visitor)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)
        visitor.start()

    def _find(self, host: str) -> Published | None:
        claim = self._claims.name("http", host)
        return None if claim is None else Published(claim, self)

    def _sweep(self) -> None:
        """Look at the time limits, as long as anybody is here."""
        now = self._loop.time()
        for visitor in list(self._visitors):
            visitor.sweep(now)
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep) if self._visitors else None

    def _over(self, visitor: HttpVisitor) -> None:
        self._visitors.discard(visitor)
        self._leave(visitor.address)
        self._metrics.http_requests += visitor.requests
        event(
            log,
            logging.INFO,
            "visitor",
            budget_key=None if visitor.served else "visitor of no service",
            visitor=str(visitor.address),
            port=visitor.entered_at.port,
            requests=visitor.requests,
            outcome=Outcome.FINISHED.value,
            received=visitor.sent,
        )
