"""The public side of the relay: tenants, what they hold, and the visitors who come for it.

A reverse-proxy's request goes the way of :meth:`PublicSide.on_message`: what its key may ask for is
checked, the claim is decided (purely, by ``claims``), the port is bound, and the answer is sent. A
visitor goes the way of the :class:`Router`: a claim is found, the budget asked, and its tenant
gives it a channel.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

from common import frames
from common.addresses import HostPort
from common.datagram_port import DatagramPort
from common.errors import SettingError
from common.forwarding import MakeForwarder
from common.joined import Joined
from common.keys import PublicKey
from common.logs import event
from common.outcome import Outcome
from common.refusals import Refusal
from common.switchboard import Caller
from common.trusted_keys import TrustedKey
from common.wire import (
    VERSION,
    Declined,
    Denied,
    Expose,
    Exposed,
    Hello,
    Message,
    Ready,
    Unexposed,
    Welcome,
    encode,
    sentence,
)
from relay_server.clients import Clients
from relay_server.http.certificates import Certificates
from relay_server.login import Admitted
from relay_server.matchmaker import Party
from relay_server.metrics import Metrics
from relay_server.pending import PendingLink
from relay_server.public.budget import Budget
from relay_server.public.claims import Claim, Claims, Granted
from relay_server.public.guide import Guide
from relay_server.public.names import NameExchange
from relay_server.public.ports import Ports
from relay_server.public.raw import RawVisitor
from relay_server.public.tenant import Owner, Tenant
from relay_server.public.visitor import Visitor, visit
from relay_server.reception import log_refused

log = logging.getLogger(__name__)

Waiting = Caller | RawVisitor
"""Who may wait for a tenant."""
SILENT_HEARTBEATS = 3
"""Heartbeats without a sign of life after which a link is dead."""
LINKS_PER_TENANT = 8192
"""Links of all purposes of one tenant: twice the largest pool by default, for visitors and raw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicConfig:
    """What the operator decides about the public side.

    Args:
        host: where public ports are bound; empty or ``*`` for all addresses.
        domain: names without a dot are put below it; may be empty.
        http, https: whether host names are served over HTTP and over TLS.
        reserve_s: seconds that exposures are kept for a reverse-proxy that is away.
        max_visitors: how many there may be at once.
        certificates: for host names whose TLS is ended here; ``None``: TLS is passed through.
        udp_idle_s: seconds after which a flow without datagrams is over.
    """

    host: str = ""
    domain: str = ""
    http: bool = False
    https: bool = False
    reserve_s: float = 600.0
    max_visitors: int = 8192
    certificates: Certificates | None = None
    udp_idle_s: float = 60.0


class PublicSide:
    """What the relay opens to the public.

    Args:
        trusted: returns the trusted key with these 32 bytes, if there is one.
        clients: where tenants are counted.
        make_forwarder: makes one direction of a joint.
    """

    def __init__(
        self,
        config: PublicConfig,
        *,
        trusted: Callable[[bytes], TrustedKey | None],
        clients: Clients,
        heartbeat_s: float,
        make_forwarder: MakeForwarder,
        metrics: Metrics,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._claims = Claims(
            domain=config.domain,
            http=config.http,
            https=config.https,
            reserve_s=config.reserve_s,
        )
        self.guide = Guide(
            self._claims,
            lambda claim: self._tenants[claim.owner],
            make_forwarder=make_forwarder,
            budget=Budget(config.max_visitors),
            certificates=config.certificates,
            metrics=metrics,
        )
        self.ports = Ports(self._loop, config.host, self.guide, metrics)
        self._trusted = trusted
        self._clients = clients
        self._heartbeat_s = heartbeat_s
        self._metrics = metrics
        self._udp_idle_s = config.udp_idle_s
        self._tenants: dict[Owner, Tenant] = {}
        self._stopping = False

    @property
    def exposures(self) -> int:
        """Exposures that are held, those of tenants that are away included."""
        return len(self._claims)

    # Links of tenants

    def judge(self, key: bytes, hello: Hello) -> Refusal | None:
        """Say why a link that is not for a pair may not come in."""
        if hello.role != "reverse-proxy":
            return Refusal("wrong-role", f"only a reverse-proxy exposes services, not {hello.role}")
        if hello.purpose == "exposures":
            return None
        tenant = self._tenants.get((key, hello.instance))
        if tenant is None or not tenant.present:
            return Refusal("no-exposures", "this reverse-proxy has exposed nothing here (yet)")
        if tenant.links >= LINKS_PER_TENANT:
            return Refusal("too-many-links", f"{LINKS_PER_TENANT} links; lower --max-channels")
        return None

    def welcome(self, admitted: Admitted, address: HostPort, link_id: int) -> None:
        """Take over a link that is not for a pair."""
        welcome = Welcome(VERSION, link_id, self._heartbeat_s)
        party = admitted.party
        owner = (party.key, party.instance)
        if admitted.purpose == "visitors":
            tenant = self._tenants.get(owner)
            if tenant is None or self._stopping:
                admitted.tls.close()
                return
            try:
                admitted.state.advance(welcome)
                admitted.tls.send(encode(welcome))
                session = admitted.tls.session()
            except Exception:
                admitted.tls.close()
                raise
            tenant.board.add(
                tenant.account, Joined(session, party.key, party.instance, self._heartbeat_s)
            )
            return
        link = PendingLink(self._loop, admitted, address, self)
        self._clients.came(party, address)
        if admitted.purpose == "exposures":
            tenant = self._tenants.get(owner)
            if tenant is None:
                tenant = Tenant(self._loop, owner, party.group, self._metrics)
                self._tenants[owner] = tenant
            before, tenant.control = tenant.control, None
            if before is not None:  # not yet known to be dead
                self._clients.left(before.party)
                before.close()
            if link.send(welcome):
                tenant.came(link)
        elif link.send(welcome):
            tenant = self._tenants.get(owner)
            if tenant is None:
                link.lose("its tenant is gone")
            else:
                tenant.add_raw(link)

    def on_message(self, link: PendingLink, message: Message) -> None:
        """Act on what a tenant's link says."""
        tenant = self._tenant(link)
        if tenant is None:
            link.lose("its tenant is gone")
            return
        match message:
            case Expose():
                self._expose(tenant, link, message)
            case Ready():
                visitor = tenant.raw_calls.pop(link)
                self._clients.left(link.party)
                visitor.ready(link)
            case Declined():
                visitor = tenant.raw_calls.pop(link)
                self._clients.left(link.party)
                link.close()
                visitor.declined(message)

    def on_lost(self, link: PendingLink, reason: str) -> None:
        """Note that a tenant's link has ended."""
        self._clients.left(link.party)
        tenant = self._tenant(link)
        event(log, logging.DEBUG, "link lost", client=str(link.address), reason=reason)
        if tenant is None:
            return
        if link is tenant.control:
            tenant.left()
            self._claims.lost(tenant.owner, self._loop.time())
            for visitor in tenant.release(lambda each: not _hold_s(each)):
                visitor.fail(Outcome.NO_CHANNEL, "its reverse-proxy has gone away")
            self._drop_if_empty(tenant)
        else:
            caller = tenant.forget_raw(link)
            if caller is not None:
                caller.fail(Outcome.LOST, reason)

    def _tenant(self, link: PendingLink) -> Tenant | None:
        return self._tenants.get((link.party.key, link.party.instance))

    # What tenants ask for

    def _expose(self, tenant: Tenant, link: PendingLink, asked: Expose) -> None:
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
        event(log, logging.INFO, "exposed", exposure=str(claim), client=str(link.address), key=key)
        tenant.send(Exposed(claim.id, claim.port, sentence(self._words(claim))))
        for old in answer.replaced:
            self._replaced(old, claim)

    def _decide(self, tenant: Tenant, asked: Expose) -> Granted | Refusal:
        """Check, claim and bind; after a refusal nothing is left behind."""
        trusted = self._trusted(tenant.owner[0])
        if trusted is None:
            return Refusal("unknown-key", "the relay does not know this key any more")
        host = self._claims.resolve(asked, self.ports.host, trusted)
        if isinstance(host, Refusal):
            return host
        try:
            port = asked.port
            if asked.kind in ("tcp", "udp") and not port:
                port = self.ports.free_port(asked.kind)
            granted = self._claims.grant(asked, host, port, tenant.owner)
            if isinstance(granted, Granted):
                try:
                    self._bind(granted.claim)
                except SettingError:
                    self._claims.withdraw(granted.claim)
                    for old in granted.replaced:  # another port of the same exposure, perhaps
                        self._let_go(old)
                    raise
            return granted
        except SettingError as error:
            return Refusal("cannot-listen", str(error))
        finally:
            self.ports.drop_fresh()

    def _bind(self, claim: Claim) -> None:
        if claim.kind == "tcp":
            self.ports.open_tcp(claim.port)
        elif claim.kind == "udp":
            self.ports.open_udp(claim.port, lambda sock: self._datagram_port(claim, sock))

    def _datagram_port(self, claim: Claim, sock: socket.socket) -> DatagramPort:
        entered_at = HostPort(self.ports.host, claim.port)

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
        tenant = self._tenants.get(old.owner)
        heir = self._tenants[new.owner]
        if tenant is not None:
            for visitor in tenant.release(lambda each: _claim_of(each) is old):
                self._hand_on(visitor, heir, new)
            if tenant is not heir:
                tenant.send(
                    Unexposed(
                        old.id,
                        "taken-over",
                        f"{old} has been taken over by another process with the same key; stop one"
                        " of the two, or let them expose different things",
                    )
                )
                self._drop_if_empty(tenant)
        if old.place != new.place:
            self._let_go(old)

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
            self.ports.close_tcp(claim.port)
        elif claim.kind == "udp" and not self._claims.holds("udp", claim.port):
            self.ports.close_udp(claim.port)

    def _withdraw(self, claim: Claim, reason: str) -> None:
        self._claims.withdraw(claim)
        self._let_go(claim)
        event(log, logging.INFO, "no longer exposed", exposure=str(claim), reason=reason)

    def _drop_if_empty(self, tenant: Tenant) -> None:
        """Forget a tenant that holds nothing and is away; its last visitors are served on."""
        if not tenant.present and not self._claims.of(tenant.owner):
            for visitor in tenant.release(lambda _: True):
                visitor.fail(Outcome.NO_CHANNEL, "the exposure has ended")
            for line in list(tenant.account.lines):
                tenant.board.retire(line)
            for link in list(tenant.raw_links):
                link.lose("its tenant is gone")
            if not tenant.links:
                self._tenants.pop(tenant.owner, None)

    def _words(self, claim: Claim) -> str:
        """Return what a person needs to know to get there."""
        if claim.kind in ("tcp", "udp"):
            return str(self.ports.address(claim.port)) + "/udp" * (claim.kind == "udp")
        return f"{claim.kind}://{claim.host}"

    # Time

    def sweep(self, now: float) -> None:
        """Find what is dead or over; call once every heartbeat."""
        limit_s = SILENT_HEARTBEATS * self._heartbeat_s
        for tenant in list(self._tenants.values()):
            tenant.tick()
            for link in tenant.message_links():
                if not link.paired and now - link.heard_at >= limit_s:
                    link.lose(f"silent for {now - link.heard_at:.0f} s")
            self._drop_if_empty(tenant)
        for claim in self._claims.expired(now):
            self._let_go(claim)
            event(
                log,
                logging.INFO,
                "no longer exposed",
                exposure=str(claim),
                reason="its reverse-proxy did not come back",
            )

    def recheck(self, judge: Callable[[Party, str], Refusal | None]) -> None:
        """End what belongs to keys that are no longer trusted, or may no longer hold it."""
        for tenant in list(self._tenants.values()):
            refusal = tenant.control and judge(tenant.control.party, tenant.control.address.host)
            trusted = self._trusted(tenant.owner[0])
            if refusal or trusted is None:
                detail = refusal.detail if refusal else "the key is no longer trusted"
                if tenant.control is not None:
                    code = refusal.code if refusal else "unknown-key"
                    log_refused(tenant.control.address, code, detail)
                    tenant.control.send(Denied(code, sentence(detail)))
                for claim in self._claims.of(tenant.owner):
                    self._withdraw(claim, detail)
                tenant.abort(detail)
                for visitor in [
                    each for each in self.guide.raw if each.claim.owner == tenant.owner
                ]:
                    visitor.abort(detail)
                self._drop_if_empty(tenant)
                continue
            for claim in self._claims.of(tenant.owner):
                refusal = (
                    trusted.check_listen(self.ports.host, claim.port)
                    if claim.kind in ("tcp", "udp")
                    else trusted.check_host(claim.host)
                )
                if refusal is not None:
                    self._withdraw(claim, refusal.detail)
                    tenant.send(Unexposed(claim.id, refusal.code, sentence(refusal.detail)))

    # The end

    def stop(self) -> None:
        """Drain: let nobody in, and tell those who wait."""
        self._stopping = True
        self.ports.close()
        self.guide.names.stop()
        for tenant in list(self._tenants.values()):
            tenant.stop()

    async def quiet(self) -> None:
        """Wait, after :meth:`stop`, until the last visitor has gone."""
        for tenant in list(self._tenants.values()):
            await tenant.board.quiet()
        await self.guide.quiet()

    def abort(self, reason: str) -> None:
        """End what is left: the grace is over."""
        self.guide.names.abort()
        for tenant in list(self._tenants.values()):
            tenant.abort(reason)
        for visitor in list(self.guide.raw):
            visitor.abort(reason)


def _claim_of(visitor: Waiting) -> Claim | None:
    return getattr(visitor, "claim", None)


def _hold_s(visitor: Waiting) -> float:
    claim = _claim_of(visitor)
    return 0 if claim is None else claim.hold_s
