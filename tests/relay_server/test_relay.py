"""Pairs that a relay joins: how two links become one, what it carries, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from common.errors import DeniedError, PeerError
from common.link import login
from common.sockets import close_with_reset
from common.tls import unwrap
from common.wire import Ping
from relay_server import pair as pair_module
from relay_server import relay as module
from tests.common.fake_relay import new_client
from tests.common.loops import on_both_loops, turns, until
from tests.common.sessions import ANN, BOB
from tests.relay_server.relay_bench import Bench, bench, end_of, trusted


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
