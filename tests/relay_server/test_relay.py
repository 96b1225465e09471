"""A relay in this process, and clients that log in to it as real ones do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace

import anyio
import pytest

from common.errors import DeniedError, PeerError
from common.forwarding import choose_forwarder
from common.key_options import KeyOptions
from common.keys import Identity
from common.link import Client, Link, login
from common.listener import Listener
from common.sockets import close_with_reset, listen
from common.tls import unwrap
from common.trusted_keys import TrustedKey, TrustedKeys
from common.wire import Denied, Paired, Ping, Role
from relay_server import login as login_module
from relay_server import pair as pair_module
from relay_server import relay as module
from relay_server.metrics import Metrics
from relay_server.public.side import PublicConfig, PublicSide
from relay_server.relay import Relay
from tests.common.fake_relay import new_client, relay_side
from tests.common.loops import on_both_loops, run, turns, until
from tests.common.sessions import ANN, BOB


def trusted(*identities: Identity) -> TrustedKeys:
    return TrustedKeys(
        TrustedKey(each.public, KeyOptions(), "keys.txt", line)
        for line, each in enumerate(identities, start=1)
    )


class Bench:
    def __init__(self, tasks: anyio.abc.TaskGroup, heartbeat_s: float) -> None:
        loop = asyncio.get_running_loop()
        self.metrics = Metrics()
        make, self.pipes = choose_forwarder("auto", loop, self.metrics)
        self.relay = Relay(
            relay_side(),
            trusted(ANN),
            "keys.txt",
            heartbeat_s=heartbeat_s,
            make_forwarder=make,
            public=lambda clients, trusted: PublicSide(
                PublicConfig(),
                trusted=trusted,
                clients=clients,
                heartbeat_s=heartbeat_s,
                make_forwarder=make,
                metrics=self.metrics,
            ),
            metrics=self.metrics,
            tasks=tasks,
        )
        self.listener = Listener(loop, listen("127.0.0.1", 0), self.relay.reception.accept)

    async def link(self, role: Role = "entry-point", client: Client | None = None) -> Link:
        who = client or new_client(role, partners=(ANN,))
        return await login(self.listener.address, who, lambda: None)

    async def couple(self) -> tuple[Link, Link]:
        """Two links that have been told of each other."""
        one, two = await self.link("reverse-proxy"), await self.link("entry-point")
        acceptor, opener = await asyncio.gather(one.wait(), two.wait())
        assert isinstance(acceptor, Paired)
        assert isinstance(opener, Paired)
        assert (acceptor.opener, opener.opener) == (False, True)
        return one, two

    async def pair(self) -> tuple[socket.socket, socket.socket]:
        one, two = await self.couple()
        raw = [unwrap(await each.hand_over()) for each in (one, two)]
        await until(lambda: self.relay.pairs, "joined")
        return raw[0], raw[1]

    def knock(self) -> socket.socket:
        sock = socket.create_connection((self.listener.address.host, self.listener.address.port), 5)
        sock.setblocking(False)
        return sock


def bench(kind: str, main: Callable[[Bench], Awaitable[None]], heartbeat_s: float = 60) -> None:
    async def whole() -> None:
        async with anyio.create_task_group() as tasks:
            b = Bench(tasks, heartbeat_s)
            tasks.start_soon(b.relay.watch)
            try:
                await main(b)
            finally:
                b.listener.close()
                b.relay.stop()
                b.relay.abort()
                tasks.cancel_scope.cancel()
        assert (b.relay.reception.strangers, b.relay.pending, b.relay.pairs) == (0, 0, 0)
        assert not b.relay._per_key
        assert not b.relay._weddings
        assert b.relay._matchmaker.waiting == 0
        assert not b.relay._matchmaker._pairs
        assert b.pipes.lent == 0
        b.pipes.close()

    run(kind, whole)


def end_of(sock: socket.socket) -> str:
    """How the connection has ended, if it has."""
    try:
        while sock.recv(4096):
            pass
    except BlockingIOError:
        return ""
    except ConnectionResetError:
        return "rst"
    return "fin"


@on_both_loops
def test_a_pair_carries_bytes_both_ways_and_ends(kind: str) -> None:
    async def main(b: Bench) -> None:
        one, two = await b.pair()
        assert (b.relay.pending, b.relay.pairs) == (0, 1)
        one.send(b"there")
        two.send(b"and back")
        await turns()
        got = [b"", b""]

        def both() -> bool:
            for index, sock in enumerate((one, two)):
                with contextlib.suppress(BlockingIOError):
                    got[index] += sock.recv(100)
            return got == [b"and back", b"there"]

        await until(both, "both ways")
        one.close()
        await until(lambda: end_of(two) == "fin", "the end is passed on")
        two.close()
        await until(lambda: b.relay.pairs == 0, "the pair ends")
        assert b.metrics.bytes_spliced + b.metrics.bytes_copied == 13
        assert b.metrics.pairs_ended == b.metrics.pairs_joined == 1

    bench(kind, main)


@on_both_loops
def test_a_reset_ends_the_pair_with_a_reset(kind: str) -> None:
    async def main(b: Bench) -> None:
        one, two = await b.pair()
        close_with_reset(one)
        await until(lambda: end_of(two) == "rst", "reset")
        assert b.relay.pairs == 0
        two.close()

    bench(kind, main)


@on_both_loops
@pytest.mark.parametrize("who", [0, 1])
def test_whoever_is_not_ready_in_time_ends_the_wedding(
    kind: str, who: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READY_S", 0.02)

    async def main(b: Bench) -> None:
        couple = await b.couple()
        raw = unwrap(await couple[who].hand_over())
        await until(lambda: end_of(raw), "called off")
        assert b.metrics.pairs_failed == 1
        assert b.relay.pending == 0
        raw.close()
        couple[1 - who].close()
        # The party is free again: the next two are paired.
        one, two = await b.pair()
        one.close()
        two.close()

    bench(kind, main, heartbeat_s=0.05)


@on_both_loops
def test_a_link_that_ends_before_ready_takes_its_partner_with_it(kind: str) -> None:
    async def main(b: Bench) -> None:
        one, two = await b.couple()
        one.close()
        raw = unwrap(await two.hand_over())
        await until(lambda: end_of(raw), "called off")
        assert b.relay.pending == 0
        raw.close()

    bench(kind, main)


@on_both_loops
def test_a_ping_may_cross_paired(kind: str) -> None:
    async def main(b: Bench) -> None:
        one = await b.link("reverse-proxy")
        two = await b.link("entry-point")
        await until(lambda: b.metrics.pairs_made == 1, "told of each other")
        await one._send(Ping())  # before it has read PAIRED
        await asyncio.gather(one.wait(), two.wait())
        raws = [unwrap(await each.hand_over()) for each in (one, two)]
        await until(lambda: b.relay.pairs == 1, "joined")
        await turns()
        with pytest.raises(BlockingIOError):
            raws[0].recv(1)  # PAIRED was the last outer byte: no PONG
        for raw in raws:
            raw.close()

    bench(kind, main)


@on_both_loops
def test_bytes_behind_ready_go_to_the_partner_untouched(kind: str) -> None:
    """The client that is ready first may begin its handshake before the other is."""

    async def main(b: Bench) -> None:
        one, two = await b.couple()
        early = unwrap(await one.hand_over())
        early.send(b"\x16\x03\x01 a hello")
        await turns()
        late = unwrap(await two.hand_over())
        got = b""

        def arrived() -> bool:
            nonlocal got
            with contextlib.suppress(BlockingIOError):
                got += late.recv(100)
            return got == b"\x16\x03\x01 a hello"

        await until(arrived, "passed on")
        early.close()
        late.close()

    bench(kind, main)


@on_both_loops
def test_a_silent_link_is_dead_after_three_heartbeats_and_a_ping_keeps_it(kind: str) -> None:
    async def main(b: Bench) -> None:
        one, two = await b.link(), await b.link()
        waiting = asyncio.create_task(two.wait())  # pings
        await until(lambda: b.metrics.links_lost == 1, "the silent one is lost")
        assert b.relay.pending == 1
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        one.close()
        two.close()

    bench(kind, main, heartbeat_s=0.05)


@on_both_loops
def test_a_silent_pair_is_dead_after_four(kind: str) -> None:
    async def main(b: Bench) -> None:
        one, two = await b.pair()
        await until(lambda: end_of(one) == end_of(two) == "rst" or not b.relay.pairs, "dead")
        assert b.relay.pairs == 0
        one.close()
        two.close()

    bench(kind, main, heartbeat_s=0.02)


@on_both_loops
def test_a_half_ended_pair_has_a_deadline(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_module, "LINGER_S", 0.05)

    async def main(b: Bench) -> None:
        one, two = await b.pair()
        one.shutdown(socket.SHUT_WR)
        await until(lambda: end_of(two) == "fin", "passed on")
        b.relay._sweep(b.relay._loop.time())
        assert b.relay.pairs == 1

        def swept() -> bool:
            b.relay._sweep(b.relay._loop.time())
            return not b.relay.pairs

        await until(swept, "ended")
        one.close()
        two.close()

    bench(kind, main)


@on_both_loops
def test_a_key_that_is_removed_ends_its_links_and_pairs(kind: str) -> None:
    async def main(b: Bench) -> None:
        one, two = await b.pair()
        link = await b.link()
        b.relay.set_keys(trusted(BOB))
        assert (b.relay.pending, b.relay.pairs) == (0, 0)
        with pytest.raises(DeniedError, match="the relay does not know key SHA256:") as caught:
            await link.wait()
        assert caught.value.code == "unknown-key"
        assert end_of(one) == end_of(two) == "rst"
        for each in (link, one, two):
            each.close()
        with pytest.raises(DeniedError):
            await b.link()
        assert b.metrics.links_denied == 1

    bench(kind, main)


@on_both_loops
def test_a_key_that_is_removed_between_paired_and_ready(kind: str) -> None:
    async def main(b: Bench) -> None:
        one, two = await b.couple()
        b.relay.set_keys(trusted(BOB))
        raws = [unwrap(await each.hand_over()) for each in (one, two)]
        await until(lambda: all(map(end_of, raws)), "ended at the next look, at the latest")
        assert b.relay.pairs == 0
        for raw in raws:
            raw.close()

    bench(kind, main, heartbeat_s=0.05)


@on_both_loops
def test_links_of_one_key_are_limited(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINKS_PER_KEY", 2)

    async def main(b: Bench) -> None:
        links = [await b.link(), await b.link()]
        with pytest.raises(DeniedError, match=r"2 links of key SHA256:.* are pending already"):
            await b.link()
        links.pop().close()
        await until(lambda: b.relay.pending == 1, "one less")
        links.append(await b.link())
        for each in links:
            each.close()

    bench(kind, main)


@on_both_loops
def test_another_version_is_told(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.link.VERSION", 7)

    async def main(b: Bench) -> None:
        with pytest.raises(DeniedError, match="speaks version 1 of the protocol, the client 7"):
            await b.link()

    bench(kind, main)


@on_both_loops
def test_too_many_partners_are_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_module, "MAX_PARTNERS", 150)

    async def main(b: Bench) -> None:
        keys = [number.to_bytes(32, "big") for number in range(151)]
        client = replace(new_client(partners=(ANN,)), partners=lambda: keys)
        with pytest.raises(PeerError):
            await b.link(client=client)
        await until(lambda: b.metrics.logins_failed == 1, "refused")

    bench(kind, main)


@on_both_loops
def test_silent_and_slow_strangers_have_deadlines(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login_module, "FIRST_BYTE_S", 0.03)
    monkeypatch.setattr(login_module, "HANDSHAKE_S", 0.06)

    async def main(b: Bench) -> None:
        silent, slow, noisy = b.knock(), b.knock(), b.knock()
        slow.send(b"\x16\x03\x01\x02\x00")
        noisy.send(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: all(map(end_of, (silent, slow, noisy))), "all are gone")
        assert (b.relay.reception.strangers, b.metrics.logins_failed) == (0, 3)
        for each in (silent, slow, noisy):
            each.close()

    bench(kind, main)


@on_both_loops
def test_silent_strangers_make_room_for_new_ones(kind: str) -> None:
    async def main(b: Bench) -> None:
        strangers = [b.knock() for _ in range(140)]
        await until(lambda: b.metrics.connections_accepted == 140, "accepted")
        link = await b.link()
        assert b.metrics.connections_evicted == 13
        await until(lambda: b.relay.reception.strangers == 127, "evicted")
        await until(lambda: sum(map(bool, map(end_of, strangers))) == 13, "and closed")
        assert all(map(end_of, strangers[:13]))
        link.close()
        for each in strangers:
            each.close()
        await until(lambda: b.relay.reception.strangers == 0, "no slot leaks")

    bench(kind, main)


@on_both_loops
def test_backlog_is_told(kind: str) -> None:
    async def main(b: Bench) -> None:
        acceptors = [await b.link("reverse-proxy") for _ in range(4)]
        await until(lambda: b.relay._matchmaker.waiting == 4, "waiting")
        opener = await b.link("entry-point")
        paired = await opener.wait()
        assert isinstance(paired, Paired)
        assert (paired.partner, paired.backlog) == (ANN.public.raw, 3)
        for each in (opener, *acceptors):
            each.close()

    bench(kind, main)


@on_both_loops
def test_a_stop_tells_those_who_wait_and_lets_pairs_finish(kind: str) -> None:
    async def main(b: Bench) -> None:
        told: list[None] = []
        one, two = await b.pair()
        link = await login(
            b.listener.address, new_client(partners=(ANN,)), lambda: told.append(None)
        )
        b.relay.stop()
        with pytest.raises(PeerError):
            await link.wait()
        assert told == [None]
        quiet = asyncio.create_task(b.relay.quiet())
        await turns()
        assert not quiet.done()
        one.close()
        two.close()
        await asyncio.wait_for(quiet, 5)
        link.close()

    bench(kind, main)


@on_both_loops
@pytest.mark.parametrize("message", [Denied("x", "y"), Paired(bytes(32), bytes(16), True, 0)])
def test_a_client_that_speaks_the_relay_s_words_is_dropped(
    kind: str, message: Denied | Paired
) -> None:
    async def main(b: Bench) -> None:
        link = await b.link()
        await link._messages.send(message)
        await until(lambda: b.metrics.links_lost == 1, "dropped")
        assert b.relay.pending == 0
        link.close()

    bench(kind, main)
