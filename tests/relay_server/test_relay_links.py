"""Links at a relay: who gets one, how long it may be silent, and who is refused or evicted."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from common.errors import DeniedError, PeerError
from common.wire import Denied, Paired
from relay_server import login as login_module
from relay_server import relay as module
from tests.common.fake_relay import new_client
from tests.common.loops import on_both_loops, until
from tests.common.sessions import ANN
from tests.relay_server.relay_bench import Bench, bench, end_of


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

    bench(kind, main, heartbeat_s=0.2)


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
