"""Leads visitors to whom they want: a claim is found, the budget asked, and a tenant opened to."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

import anyio

from common.addresses import HostPort, normalise_ip
from common.forwarding import MakeForwarder
from common.logs import event
from common.refusals import Refusal
from common.sockets import close_with_reset, end_with_reset, keep_alive
from relay_server.admission import source_of
from relay_server.http.certificates import Certificates
from relay_server.metrics import Metrics
from relay_server.public.budget import Budget
from relay_server.public.claims import Claim, Claims
from relay_server.public.names import Names
from relay_server.public.raw import RawVisitor
from relay_server.public.tenant import Tenant
from relay_server.public.visitor import Visitor

log = logging.getLogger(__name__)


class Guide:
    """The router of all doors.

    Args:
        claims: who holds what.
        tenant_of: returns the tenant that holds a claim.
        make_forwarder: makes one direction of a raw visitor's joint.
        budget: how many visitors there may be at once.
        certificates: for host names whose TLS is ended here.
    """

    def __init__(
        self,
        claims: Claims,
        tenant_of: Callable[[Claim], Tenant],
        *,
        make_forwarder: MakeForwarder,
        budget: Budget[Claim],
        certificates: Certificates | None,
        metrics: Metrics,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.accept_client: Callable[[socket.socket, HostPort], None]
        """Takes over a connection of a tunnel client; set by the owner."""
        self.raw: set[RawVisitor] = set()
        """Raw visitors, those that wait included."""
        self._claims = claims
        self._tenant_of = tenant_of
        self._make_forwarder = make_forwarder
        self._budget = budget
        self.names = Names(self._loop, claims, tenant_of, budget, certificates, metrics)
        """The visitors of host names."""
        self._metrics = metrics
        self._quiet = anyio.Event()

    @property
    def visitors(self) -> int:
        """Visitors that are served, or wait."""
        return self._budget.total

    def tick(self, silent_s: float) -> None:
        """Let go of raw visitors that are dead; call once every heartbeat.

        Args:
            silent_s: seconds without an acknowledgement that a living visitor does not take.
        """
        for visitor in list(self.raw):
            visitor.tick(silent_s)

    async def quiet(self) -> None:
        """Wait until no raw visitor is left; no further one may come."""
        if self.raw:
            self._quiet = anyio.Event()
            await self._quiet.wait()

    def _settle(self) -> None:
        if not self.raw:
            self._quiet.set()

    def tunnel(self, sock: socket.socket, address: HostPort) -> None:
        """Take over a connection of a client of ours."""
        self.accept_client(sock, address)

    def has_exposure(self, port: int) -> bool:
        """Whether the TCP port itself is exposed."""
        return self._claims.holds("tcp", port)

    def visit_name(
        self, sock: socket.socket, address: HostPort, port: int, sni: str | None
    ) -> bool:
        """Take over a TLS connection for the host name, if it is known or can be answered."""
        claim = self._claims.name("https", sni) if sni else None
        if claim is not None:
            end_with_reset(sock)
            self._visit(sock, address, _entered_at(sock, port), claim)
        elif not self.names.ends_tls:
            return False
        elif refusal := self.names.admit(address):
            self._turn_away(sock, address, refusal)
        else:
            self.names.accept_tls(sock, address, _entered_at(sock, port), sni)
        return True

    def visit_http(self, sock: socket.socket, address: HostPort, port: int) -> None:
        """Take over an HTTP connection in plain text."""
        if refusal := self.names.admit(address):
            self._turn_away(sock, address, refusal)
        else:
            self.names.accept(sock, address, _entered_at(sock, port))

    def visit_port(self, sock: socket.socket, address: HostPort, port: int) -> None:
        """Take over a connection for the exposure of the port."""
        claim = self._claims.port("tcp", port, address.host)
        if claim is None:
            refusal = Refusal("not-admitted", f"no exposure of port {port} admits this source")
            self._turn_away(sock, address, refusal)
        else:
            self._visit(sock, address, _entered_at(sock, port), claim)

    def _visit(
        self, sock: socket.socket, address: HostPort, entered_at: HostPort, claim: Claim
    ) -> None:
        """Lead a visitor to the tenant whose exposure it wants."""
        source = source_of(address.host)
        refusal = self._budget.admit(claim, source)
        if refusal is not None:
            self._turn_away(sock, address, refusal)
            return
        self._metrics.visitors_accepted += 1
        keep_alive(sock)  # it may have vanished while nobody has anything to say
        tenant = self._tenant_of(claim)
        if claim.raw:

            def raw_ended(visitor: RawVisitor) -> None:
                self.raw.discard(visitor)
                self._settle()
                self._budget.leave(claim, source)

            raw = RawVisitor(
                self._loop,
                sock,
                address,
                entered_at,
                claim,
                self._make_forwarder,
                self._metrics,
                raw_ended,
            )
            self.raw.add(raw)
            tenant.open_raw(raw, claim.hold_s)
            return

        def ended() -> None:
            self._budget.leave(claim, source)

        visitor = Visitor(self._loop, sock, address, entered_at, claim, self._metrics, ended)
        tenant.open(visitor, claim.hold_s)

    def _turn_away(self, sock: socket.socket, address: HostPort, refusal: Refusal) -> None:
        self._metrics.visitors_rejected += 1
        close_with_reset(sock)
        event(
            log,
            logging.WARNING,
            "visitor turned away",
            budget_key=f"visitor turned away: {refusal.code}",
            visitor=str(address),
            reason=refusal.detail,
        )


def _entered_at(sock: socket.socket, port: int) -> HostPort:
    try:
        return HostPort(normalise_ip(sock.getsockname()[0]), port)
    except OSError:  # it has gone already
        return HostPort("", port)
