"""The public side of the relay: tenants, what they hold, and the visitors who come for it.

A reverse-proxy's request goes the way of :meth:`PublicSide.on_message`: what its key may ask for is
checked, the claim is decided (purely, by ``claims``), the port is bound, and the answer is sent. A
visitor goes the way of the :class:`Router`: a claim is found, the budget asked, and its tenant
gives it a channel.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from common.addresses import HostPort
from common.forwarding import MakeForwarder
from common.joined import Joined
from common.keys import PublicKey
from common.logs import event
from common.outcome import Outcome
from common.refusals import Refusal
from common.trusted_keys import TrustedKey
from common.wire import (
    VERSION,
    Declined,
    Denied,
    Expose,
    Hello,
    Message,
    Ready,
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
from relay_server.public.claims import Claims
from relay_server.public.guide import Guide
from relay_server.public.ports import Ports
from relay_server.public.registrar import Registrar, Waiting, claim_of
from relay_server.public.tenant import Owner, Tenant
from relay_server.reception import log_refused

log = logging.getLogger(__name__)

SILENT_HEARTBEATS = 3
"""Heartbeats without a sign of life after which a link is dead."""
MOST_CALLS = 3
"""Raw links that are told of a visitor, one after the other, if they are lost before an answer."""
TENANTS_PER_KEY = 256
"""Processes with exposures that share a key."""
LINKS_PER_TENANT = 8192
"""Links of all purposes of one tenant: twice the largest pool by default, for visitors and raw."""
LINKS_PER_KEY = 4 * LINKS_PER_TENANT
"""Links of all tenants of one key: a key may have many machines, but not every descriptor."""


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
            http=config.http or (config.https and config.certificates is not None),
            https=config.https,
            reserve_s=config.reserve_s,
        )
        self._tenants: dict[Owner, Tenant] = {}
        self.guide = Guide(
            self._claims,
            lambda claim: self._tenants[claim.owner],
            make_forwarder=make_forwarder,
            budget=Budget(config.max_visitors),
            certificates=config.certificates,
            metrics=metrics,
        )
        self.ports = Ports(self._loop, config.host, self.guide, metrics)
        self.ports.ends_tls = config.certificates is not None
        self._registrar = Registrar(
            self._claims, self.ports, self._tenants, trusted, config.udp_idle_s, metrics
        )
        self._trusted = trusted
        self._clients = clients
        self._heartbeat_s = heartbeat_s
        self._metrics = metrics
        self._stopping = False

    @property
    def tenants_present(self) -> int:
        """Tenants that are connected."""
        return sum(each.present for each in self._tenants.values())

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
            others = sum(owner[0] == key for owner in self._tenants)
            if others < TENANTS_PER_KEY or (key, hello.instance) in self._tenants:
                return None
            return Refusal(
                "too-many-links",
                f"{TENANTS_PER_KEY} reverse-proxies with key {PublicKey(key).fingerprint} have"
                " exposures here already; give them keys of their own",
            )
        tenant = self._tenants.get((key, hello.instance))
        if tenant is None or not tenant.present:
            return Refusal("no-exposures", "this reverse-proxy has exposed nothing here (yet)")
        if tenant.links >= LINKS_PER_TENANT:
            return Refusal("too-many-links", f"{LINKS_PER_TENANT} links; lower --max-channels")
        if sum(each.links for owner, each in self._tenants.items() if owner[0] == key) >= (
            LINKS_PER_KEY
        ):
            return Refusal("too-many-links", f"{LINKS_PER_KEY} links of one key; use several")
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
            tenant.came(link)  # first: if the link is lost with its welcome, what it held is noted
            link.send(welcome)
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
                self._registrar.expose(tenant, link, message)
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
            if caller is None:
                return
            if caller.calls < MOST_CALLS and not self._stopping:
                # Nothing of the visitor's has been sent: the link was given up just then.
                caller.call_off()
                tenant.open_raw(caller, caller.claim.hold_s)
            else:
                caller.fail(Outcome.LOST, reason)

    def _tenant(self, link: PendingLink) -> Tenant | None:
        return self._tenants.get((link.party.key, link.party.instance))

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
        self.guide.tick(limit_s)
        self._registrar.expire(now)

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
                    self._registrar.withdraw(claim, detail)
                tenant.abort(detail)
                for visitor in [
                    each for each in self.guide.raw if each.claim.owner == tenant.owner
                ]:
                    visitor.abort(detail)
                self._drop_if_empty(tenant)
                continue
            self._registrar.recheck(tenant, trusted)

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


def _hold_s(visitor: Waiting) -> float:
    claim = claim_of(visitor)
    return 0 if claim is None else claim.hold_s
