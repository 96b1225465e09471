"""The relay: strangers come in, links wait, pairs are joined. It never sees what they carry.

A connection goes through four stations, and is in exactly one of them at any time::

    stranger --login--> pending link --match--> wedding --READY twice--> pair

Each station has its own deadline or liveness rule, and whatever ends there is closed there.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

import anyio
import anyio.abc

from common.addresses import HostPort
from common.forwarding import MakeForwarder
from common.keys import PublicKey
from common.logs import event
from common.refusals import Refusal
from common.trusted_keys import TrustedKey, TrustedKeys
from common.wire import VERSION, Denied, GoAway, Hello, Message, Paired, Welcome, sentence
from relay_server.clients import Clients
from relay_server.login import Admitted, unknown_key
from relay_server.matchmaker import Matchmaker, Party
from relay_server.metrics import Metrics
from relay_server.pair import Pair
from relay_server.pending import PendingLink
from relay_server.public.side import PublicSide
from relay_server.reception import Reception, log_refused

log = logging.getLogger(__name__)

READY_S: Final = 10.0
"""Seconds for both sides to say READY: one round trip each."""
SILENT_HEARTBEATS: Final = 3
"""Heartbeats without a sign of life after which a pending link is dead."""
SILENT_PAIR_HEARTBEATS: Final = 4
"""The same for a pair: its partners notice each other's silence first, unless both are gone."""
LINKS_PER_KEY: Final = 4096
"""Pending links of one key: the largest pool a client can ask for by default."""


MakePublicSide = Callable[[Clients, Callable[[bytes], TrustedKey | None]], PublicSide]
"""Takes the clients to be counted, and what finds the trusted key with these 32 bytes."""


@dataclass(eq=False, slots=True)
class Wedding:
    """Two links that were told of each other and have to say READY."""

    opener: PendingLink
    acceptor: PendingLink
    deadline: float
    ready: int = 0


class Relay:
    """Everything between the listener and the raw bytes.

    Args:
        context: the TLS context for links.
        keys: who may come in; replaced by :meth:`set_keys`.
        keys_path: where ``keys`` come from, for messages.
        heartbeat_s: seconds between two signs of life of a pending link.
        make_forwarder: makes one direction of a joint.
        public: makes the public side, which takes over the links that are not for pairs.
        tasks: where logins run.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        keys: TrustedKeys,
        keys_path: str,
        *,
        heartbeat_s: float,
        make_forwarder: MakeForwarder,
        public: MakePublicSide,
        metrics: Metrics,
        tasks: anyio.abc.TaskGroup,
    ) -> None:
        self.reception = Reception(context, self._judge, self._welcome, metrics, tasks)
        self._keys, self._keys_path = keys, keys_path
        self._heartbeat_s = heartbeat_s
        self._make_forwarder = make_forwarder
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._pending: set[PendingLink] = set()
        self._clients = Clients()
        self.public = public(self._clients, lambda key: self._keys.get(key))
        self._per_key: dict[bytes, int] = {}
        self._matchmaker: Matchmaker[PendingLink] = Matchmaker()
        self._weddings: dict[PendingLink, Wedding] = {}
        self._pairs: set[Pair] = set()
        self._link_ids = count(1)
        self._stopping = False
        self._quiet = anyio.Event()

    @property
    def pending(self) -> int:
        """Links that wait for a partner, or for READY."""
        return len(self._pending)

    @property
    def clients(self) -> int:
        """Client processes that hold a link or a half of a pair."""
        return len(self._clients)

    @property
    def pairs(self) -> int:
        """Pairs that are joined."""
        return len(self._pairs)

    # Who may come in

    def _judge(self, key: bytes, hello: Hello, address: HostPort) -> Refusal | None:
        if self._per_key.get(key, 0) >= LINKS_PER_KEY:
            return Refusal(
                "too-many-links",
                f"{LINKS_PER_KEY} links of key {PublicKey(key).fingerprint} are pending already; "
                "lower --pool or --max-channels",
            )
        refusal = self._refusal(key, hello.role, hello.group, address.host)
        if refusal is None and hello.purpose != "pair":
            return self.public.judge(key, hello)
        return refusal

    # Pending links

    def _welcome(self, admitted: Admitted, address: HostPort) -> None:
        if self._stopping:
            admitted.tls.close()
            return
        if admitted.purpose != "pair":
            self.public.welcome(admitted, address, next(self._link_ids))
            return
        link = PendingLink(self._loop, admitted, address, self)
        party = link.party
        self._pending.add(link)
        self._clients.came(party, address)
        self._per_key[party.key] = self._per_key.get(party.key, 0) + 1
        if not link.send(Welcome(VERSION, next(self._link_ids), self._heartbeat_s)):
            return
        self._metrics.links_welcomed += 1
        event(
            log,
            logging.DEBUG,
            "link pending",
            client=str(address),
            role=party.role,
            group=party.group,
            key=PublicKey(party.key).fingerprint,
            software=admitted.software,
        )
        partner = self._matchmaker.add(link, party)
        if partner is not None:
            self._marry(link, partner)

    def on_lost(self, link: PendingLink, reason: str) -> None:
        """Forget a link that ended before it was handed over; its partner goes with it."""
        self._leave_pending(link)
        self._clients.left(link.party)
        self._matchmaker.remove(link, link.party)
        self._metrics.links_lost += 1
        event(
            log,
            logging.DEBUG,
            "link lost",
            client=str(link.address),
            role=link.party.role,
            reason=reason,
        )
        wedding = self._weddings.get(link)
        if wedding is not None:
            self._call_off(wedding, reason)

    def _leave_pending(self, link: PendingLink) -> None:
        if link in self._pending:
            self._pending.remove(link)
            key = link.party.key
            self._per_key[key] -= 1
            if not self._per_key[key]:
                del self._per_key[key]

    # Weddings

    def _marry(self, one: PendingLink, other: PendingLink) -> None:
        opener, acceptor = (one, other) if one.party.role == "entry-point" else (other, one)
        wedding = Wedding(opener, acceptor, self._loop.time() + READY_S)
        self._weddings[opener] = self._weddings[acceptor] = wedding
        self._metrics.pairs_made += 1
        for link, partner in ((opener, acceptor), (acceptor, opener)):
            paired = Paired(
                partner=partner.party.key,
                instance=partner.party.instance,
                opener=link is opener,
                backlog=self._matchmaker.backlog(link.party),
            )
            if not link.send(paired):  # lost: the wedding is off already
                return

    def on_message(self, link: PendingLink, message: Message) -> None:  # noqa: ARG002 - READY
        """Join the raw sockets once both links are ready."""
        wedding = self._weddings[link]
        wedding.ready += 1
        if wedding.ready < 2:
            return
        for each in (wedding.opener, wedding.acceptor):
            del self._weddings[each]
            self._leave_pending(each)
        pair = Pair(
            wedding.opener.hand_over(),
            wedding.acceptor.hand_over(),
            (wedding.opener.party, wedding.acceptor.party),
            (wedding.opener.address.host, wedding.acceptor.address.host),
            self._make_forwarder,
            self._on_pair_end,
            self._loop.time(),
        )
        self._pairs.add(pair)
        self._metrics.pairs_joined += 1
        pair.start()

    def _call_off(self, wedding: Wedding, reason: str) -> None:
        """Close both links of a wedding that failed; they cannot go back to the pool."""
        self._metrics.pairs_failed += 1
        self._matchmaker.release(wedding.opener.party, wedding.acceptor.party)
        for link in (wedding.opener, wedding.acceptor):
            del self._weddings[link]
            if not link.closed:  # the one that was lost has been counted already
                self._clients.left(link.party)
            self._leave_pending(link)
            link.close()
        event(
            log,
            logging.INFO,
            "pair failed",
            budget_key="pair failed",
            opener=str(wedding.opener.address),
            acceptor=str(wedding.acceptor.address),
            reason=reason,
        )

    def _on_pair_end(self, pair: Pair, reason: str) -> None:
        self._pairs.discard(pair)
        self._metrics.pairs_ended += 1
        self._matchmaker.release(*pair.parties)
        for party in pair.parties:
            self._clients.left(party)
        event(log, logging.DEBUG, "pair ended", reason=reason)
        if self._stopping and not self._pairs:
            self._quiet.set()

    # Time

    async def watch(self) -> None:
        """Find what is dead or late, for ever."""
        swept_at = self._loop.time()
        while True:
            await anyio.sleep(min(1.0, self._heartbeat_s))
            now = self._loop.time()
            for wedding in set(self._weddings.values()):
                if now >= wedding.deadline:
                    self._call_off(wedding, f"not READY within {READY_S:g} s")
            if now - swept_at >= self._heartbeat_s:
                swept_at = now
                self._sweep(now)

    def _sweep(self, now: float) -> None:
        limit_s = SILENT_HEARTBEATS * self._heartbeat_s
        for link in list(self._pending):
            if link not in self._weddings and now - link.heard_at >= limit_s:
                link.lose(f"silent for {now - link.heard_at:.0f} s")
        for pair in list(self._pairs):
            pair.sweep(now, SILENT_PAIR_HEARTBEATS * self._heartbeat_s)
        self.public.sweep(now)
        self.recheck_keys()

    # Keys

    def set_keys(self, keys: TrustedKeys) -> None:
        """Use other trusted keys from now on; links and pairs of keys that are gone end now."""
        self._keys = keys
        self.recheck_keys()

    def recheck_keys(self) -> None:
        """End the links and pairs whose key has expired or is no longer trusted."""
        judged: dict[tuple[Party, str], Refusal | None] = {}

        def judge(party: Party, address: str) -> Refusal | None:
            known = (party, address)  # a client has many links: judge it once
            if known not in judged:
                judged[known] = self._refusal(party.key, party.role, party.group, address)
            return judged[known]

        for link in list(self._pending):
            refusal = judge(link.party, link.address.host)
            if refusal is not None and link not in self._weddings:
                log_refused(link.address, refusal.code, refusal.detail)
                if link.send(Denied(refusal.code, sentence(refusal.detail))):
                    link.lose(refusal.code)
        for pair in list(self._pairs):
            for party, address in zip(pair.parties, pair.addresses, strict=True):
                refusal = judge(party, address)
                if refusal is not None:
                    event(
                        log,
                        logging.WARNING,
                        "pair ended",
                        budget_key=f"pair ended: {refusal.code}",
                        client=address,
                        code=refusal.code,
                        reason=refusal.detail,
                    )
                    pair.abort(refusal.detail)
                    break
        self.public.recheck(judge)

    def _refusal(self, key: bytes, role: str, group: str, address: str) -> Refusal | None:
        trusted = self._keys.get(key)
        if trusted is None:
            return unknown_key(key, self._keys_path)
        return trusted.check_login(role, group, address, time.time())

    # The end

    def stop(self) -> None:
        """Drain: take nobody in, and tell those who wait; nobody uses a pair not joined yet."""
        self._stopping = True
        for wedding in set(self._weddings.values()):
            self._call_off(wedding, "the relay ends")
        for link in list(self._pending):
            if link not in self._weddings and link.send(GoAway()):
                link.lose("the relay ends")
        self.public.stop()
        if not self._pairs:
            self._quiet.set()

    async def quiet(self) -> None:
        """Wait, after :meth:`stop`, until every pair has ended and every visitor has gone."""
        await self._quiet.wait()
        await self.public.quiet()

    def abort(self) -> None:
        """End what is left: the grace is over."""
        for wedding in set(self._weddings.values()):
            self._call_off(wedding, "the relay ends")
        for pair in list(self._pairs):
            pair.abort("the relay ends")
        self.public.abort("the relay ends")
