"""Carries out what tenants ask for: checks, claims, binds ports, and answers.

The decision is pure (``claims``); a port is bound between the decision and the answer, and if that
fails nothing is left behind.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping

from common import frames
from common.addresses import HostPort
from common.datagram_port import DatagramPort
from common.errors import SettingError
from common.keys import PublicKey
from common.log_budget import LogBudget
from common.logs import event
from common.outcome import Outcome
from common.refusals import Refusal
from common.switchboard import Caller
from common.trusted_keys import TrustedKey
from common.wire import Expose, Exposed, Unexposed, sentence
from relay_server.metrics import Metrics
from relay_server.pending import PendingLink
from relay_server.public.claims import Claim, Claims, Granted, Owner
from relay_server.public.names import NameExchange
from relay_server.public.ports import Ports
from relay_server.public.raw import RawVisitor
from relay_server.public.tenant import Tenant
from relay_server.public.visitor import Visitor, visit

log = logging.getLogger(__name__)

LINES_AT_ONCE = 1024
"""Lines about what one key exposes that are all told, in ten seconds: a large range of ports."""

Waiting = Caller | RawVisitor
"""Who may wait for a tenant."""


class Registrar:
    """Keeps claims and ports in step.

    Args:
        tenants: all there are.
        trusted: returns the trusted key with these 32 bytes, if there is one.
        udp_idle_s: seconds after which a flow without datagrams is over.
    """

    def __init__(
        self,
        claims: Claims,
        ports: Ports,
        tenants: Mapping[Owner, Tenant],
        trusted: Callable[[bytes], TrustedKey | None],
        udp_idle_s: float,
        metrics: Metrics,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._claims = claims
        self._ports = ports
        self._tenants = tenants
        self._trusted = trusted
        self._udp_idle_s = udp_idle_s
        self._metrics = metrics
        self._lines = LogBudget(LINES_AT_ONCE)

    def expose(self, tenant: Tenant, link: PendingLink, asked: Expose) -> None:
        """Grant or refuse what a tenant asks for, and tell it."""
        answer = self._decide(tenant, asked)
        key = PublicKey(tenant.owner[0]).fingerprint
        if isinstance(answer, Refusal):
            self._metrics.exposures_refused += 1
            event(
                log,
                logging.WARNING,
                "exposure refused",
                budget_key=f"exposure refused: {answer.code}",
                client=str(link.address),
                key=key,
                code=answer.code,
                reason=answer.detail,
            )
            tenant.send(Unexposed(asked.id, answer.code, sentence(answer.detail)))
            return
        claim = answer.claim
        told = self._lines.admit(key, self._loop.time())
        event(
            log,
            logging.INFO,
            "exposed",
            budget_key=None if told else f"exposed by {key}",
            exposure=str(claim),
            client=str(link.address),
            key=key,
        )
        tenant.send(Exposed(claim.id, claim.port, sentence(self._ports.words(claim))))
        for old in answer.replaced:
            self._replaced(old, claim)

    def _decide(self, tenant: Tenant, asked: Expose) -> Granted | Refusal:
        """Check, claim and bind; after a refusal nothing is left behind."""
        trusted = self._trusted(tenant.owner[0])
        if trusted is None:
            return Refusal("unknown-key", "the relay does not know this key any more")
        host = self._claims.resolve(asked, self._ports.host, trusted)
        if isinstance(host, Refusal):
            return host
        try:
            port = asked.port
            if asked.kind in ("tcp", "udp") and not port:
                port = self._ports.free_port(asked.kind)
            granted = self._claims.grant(asked, host, port, tenant.owner)
            if isinstance(granted, Granted):
                try:
                    self._bind(granted.claim)
                except SettingError:
                    self._claims.withdraw(granted.claim)
                    for old in granted.replaced:
                        self._dispossess(old, None)
                    raise
            return granted
        except SettingError as error:
            return Refusal("cannot-listen", str(error))
        finally:
            self._ports.drop_fresh()

    def _bind(self, claim: Claim) -> None:
        if claim.kind == "tcp":
            self._ports.open_tcp(claim.port)
        elif claim.kind == "udp":
            self._ports.open_udp(claim.port, lambda sock: self._datagram_port(claim, sock))

    def _datagram_port(self, claim: Claim, sock: socket.socket) -> DatagramPort:
        entered_at = HostPort(self._ports.host, claim.port)

        def open_channel(port: Caller) -> None:
            self._tenants[claim.owner].open(port, claim.hold_s)

        return DatagramPort(
            self._loop,
            sock,
            admits=lambda host: self._claims.port("udp", claim.port, host) is claim,
            ask=lambda: frames.encode_visit(visit(claim, HostPort("", 0), entered_at)),
            open_channel=open_channel,
            idle_s=self._udp_idle_s,
            counts=self._metrics,
            name=str(claim),
        )

    def _replaced(self, old: Claim, new: Claim) -> None:
        """Move the visitors that wait, and tell the process that has lost its exposure."""
        self._dispossess(old, new)
        if old.place != new.place:
            self._let_go(old)

    def _dispossess(self, old: Claim, new: Claim | None) -> None:
        """Take a claim from its process; without ``new`` nobody has it: the port is lost."""
        tenant = self._tenants.get(old.owner)
        if tenant is not None:
            for visitor in tenant.release(lambda each: claim_of(each) is old):
                if new is None:
                    visitor.fail(Outcome.NO_CHANNEL, "the exposure has ended")
                else:
                    self._hand_on(visitor, self._tenants[new.owner], new)
            if new is None:
                detail = f"{old} has ended: what was to take its place could not be bound"
                tenant.send(Unexposed(old.id, "cannot-listen", sentence(detail)))
            elif new.owner != old.owner:
                tenant.send(
                    Unexposed(
                        old.id,
                        "taken-over",
                        f"{old} has been taken over by another process with the same key; stop one"
                        " of the two, or let them expose different things",
                    )
                )
        if new is None:
            self._let_go(old)

    def _send_off(self, claim: Claim) -> None:
        """Tell the visitors that wait for a claim that it has ended."""
        tenant = self._tenants.get(claim.owner)
        for visitor in tenant.release(lambda each: claim_of(each) is claim) if tenant else ():
            visitor.fail(Outcome.NO_CHANNEL, "the exposure has ended")

    def _hand_on(self, visitor: Waiting, heir: Tenant, new: Claim) -> None:
        """Let a visitor that waits go on waiting, for the process that has come."""
        if isinstance(visitor, Visitor | NameExchange) and not new.raw:
            visitor.claim = new
            heir.open(visitor, new.hold_s)
        elif isinstance(visitor, RawVisitor) and new.raw:
            visitor.claim = new
            heir.open_raw(visitor, new.hold_s)
        else:
            visitor.fail(Outcome.LOST, "the exposure has changed")

    def _let_go(self, claim: Claim) -> None:
        """Close the port of a claim that has ended, if nobody else holds it."""
        if claim.kind == "tcp" and not self._claims.holds("tcp", claim.port):
            self._ports.close_tcp(claim.port)
        elif claim.kind == "udp" and not self._claims.holds("udp", claim.port):
            self._ports.close_udp(claim.port)

    def withdraw(self, claim: Claim, reason: str) -> None:
        """End a claim."""
        self._claims.withdraw(claim)
        self._send_off(claim)
        self._let_go(claim)
        self._tell_ended(claim, reason)

    def expire(self, now: float) -> None:
        """End the claims whose reverse-proxy did not come back in time."""
        for claim in self._claims.expired(now):
            self._send_off(claim)
            self._let_go(claim)
            self._tell_ended(claim, "its reverse-proxy did not come back")

    def recheck(self, tenant: Tenant, trusted: TrustedKey) -> None:
        """End the claims that the tenant's key may hold no longer."""
        for claim in self._claims.of(tenant.owner):
            refusal = (
                trusted.check_listen(self._ports.host, claim.port)
                if claim.kind in ("tcp", "udp")
                else trusted.check_host(claim.host)
            )
            if refusal is not None:
                self.withdraw(claim, refusal.detail)
                tenant.send(Unexposed(claim.id, refusal.code, sentence(refusal.detail)))

    @staticmethod
    def _tell_ended(claim: Claim, reason: str) -> None:
        event(log, logging.INFO, "no longer exposed", exposure=str(claim), reason=reason)


def claim_of(visitor: Waiting) -> Claim | None:
    """Return what a visitor waits for; a port of datagrams waits for nothing in particular."""
    return getattr(visitor, "claim", None)
