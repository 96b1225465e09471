"""The peers see what they are there to see: without that, a case that passes says nothing."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from common.sockets import close_with_reset
from tests.battery.peers import Peers
from tests.battery.plans import FIRST, SIDES, Door, Fate, Plan, Side, Text, Wrong
from tests.programs.ends import TcpServer, together

SIZE = 300_000
EARLY = 70_000

Way = Callable[[socket.socket, socket.socket], None]
"""Passes on what one socket says to the other, its end included."""


def pass_on(source: socket.socket, sink: socket.socket) -> None:
    while data := source.recv(65536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)


def some(source: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count and (part := source.recv(count - len(got))):
        got += part
    return got


def run(
    work: Callable[[Peers, Door], Awaitable[None]],
    up: Way = pass_on,
    down: Way = pass_on,
    deadline_s: float = 10.0,
) -> None:
    """Do ``work`` with a door that leads through ``up`` and ``down`` to the peers' destinations."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        def carry(way: Way, one: socket.socket, other: socket.socket) -> None:
            with suppress(ConnectionError, TimeoutError):
                way(one, other)
                return
            for each in (one, other):
                close_with_reset(each)

        def serve(near: socket.socket) -> None:
            with socket.create_connection(listener.getsockname()) as far:
                for each in (near, far):
                    each.settimeout(10)
                together(lambda: carry(up, near, far), lambda: carry(down, far, near))

        async def main(proxy: TcpServer) -> None:
            peers = Peers(deadline_s)
            peers.serve(listener, b"")
            try:
                await work(peers, Door("a proxy", proxy.address))
            finally:
                with suppress(Wrong, ExceptionGroup):
                    await peers.close()

        with TcpServer(serve) as proxy:
            asyncio.run(main(proxy))


def whole(number: int = 1) -> Plan:
    return Plan(number, dict.fromkeys(SIDES, SIZE))


def refuse(
    plan: Plan, match: str, *, spoiled: bool = False, up: Way = pass_on, down: Way = pass_on
) -> None:
    """Play ``plan`` and expect a complaint from one of its ends."""

    async def work(peers: Peers, door: Door) -> None:
        async def to_the_end() -> None:
            await peers.play(door, plan, spoiled=spoiled)
            await peers.ended()

        with pytest.raises((Wrong, ExceptionGroup)) as caught:
            await to_the_end()
        wrong: BaseException = caught.value
        while isinstance(wrong, ExceptionGroup):
            wrong = wrong.exceptions[0]
        assert isinstance(wrong, Wrong)
        assert match in str(wrong)

    run(work, up, down)


def way_up(side: Side, way: Way) -> tuple[Way, Way]:
    """Return both ways, with ``way`` for what ``side`` says."""
    return (way, pass_on) if side == "source" else (pass_on, way)


@pytest.mark.parametrize("waits", [None, *SIDES])
def test_streams_that_are_whole(waits: Side | None) -> None:
    async def work(peers: Peers, door: Door) -> None:
        plan = Plan(1, dict.fromkeys(SIDES, SIZE), waits=waits)
        assert await peers.play(door, plan) == (Fate.WHOLE, Fate.WHOLE)
        assert peers.tally.right == 2 * SIZE

    run(work)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("spoiled", [False, True])
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda data: bytes([data[0] ^ 1]) + data[1:], f"byte {EARLY} is wrong"),
        (lambda data: data[1:], f"byte {EARLY} is wrong"),
        (lambda data: data + data[-1:], f"byte {EARLY + 2000} is wrong"),
        (lambda data: Text(9, "source").part(1021, 2000), "of the source of stream 9"),
        (lambda _: b"", f"byte {EARLY} is wrong"),
    ],
    ids=["a bit", "one lost", "one twice", "another stream's", "a piece lost"],
)
def test_wrong_bytes(
    side: Side, spoiled: bool, change: Callable[[bytes], bytes], match: str
) -> None:
    def way(source: socket.socket, sink: socket.socket) -> None:
        sink.sendall(some(source, EARLY))
        sink.sendall(change(some(source, 2000)))
        pass_on(source, sink)

    up, down = way_up(side, way)
    refuse(whole(), match, spoiled=spoiled, up=up, down=down)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("spoiled", [False, True])
def test_an_end_that_comes_early(side: Side, spoiled: bool) -> None:
    def way(source: socket.socket, sink: socket.socket) -> None:
        sink.sendall(some(source, EARLY))
        sink.shutdown(socket.SHUT_WR)
        while source.recv(65536):
            pass

    up, down = way_up(side, way)
    refuse(whole(), "an end after 70,000 of 300,000 bytes", spoiled=spoiled, up=up, down=down)


@pytest.mark.parametrize("aborts", SIDES)
@pytest.mark.parametrize("spoiled", [False, True])
def test_an_abort_that_looks_like_an_end(aborts: Side, spoiled: bool) -> None:
    """Even when every byte has arrived before it."""

    def polite(source: socket.socket, sink: socket.socket) -> None:
        try:
            pass_on(source, sink)
        except ConnectionError:
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

    plan = Plan(1, dict.fromkeys(SIDES, SIZE), aborts=aborts, after=SIZE, pause_s=0.1)
    match = "an end after 300,000 of 300,000 bytes"
    refuse(plan, match, spoiled=spoiled, up=polite, down=polite)


def test_aborts_by_either_side_after_saying_and_after_hearing() -> None:
    async def work(peers: Peers, door: Door) -> None:
        for number, side in enumerate(SIDES):
            sizes = dict.fromkeys(SIDES, SIZE)
            for trigger in (False, True):
                plan = Plan(
                    number * 2 + trigger,
                    sizes,
                    aborts=side,
                    trigger="hears" if trigger else "says",
                    after=EARLY,
                )
                assert await peers.play(door, plan) == (Fate.RESET, Fate.RESET)

    run(work)


def reset_early(source: socket.socket, sink: socket.socket) -> None:
    sink.sendall(some(source, EARLY))
    raise ConnectionResetError


def test_a_reset_that_nobody_wanted() -> None:
    refuse(whole(), "was reset", up=reset_early)


def test_a_reset_where_something_breaks_is_no_complaint() -> None:
    async def work(peers: Peers, door: Door) -> None:
        here, _ = await peers.play(door, whole(), spoiled=True)
        assert here is Fate.RESET
        await peers.ended()

    run(work, up=reset_early)


def test_a_stream_that_does_not_end() -> None:
    over = threading.Event()

    def stop(source: socket.socket, sink: socket.socket) -> None:
        sink.sendall(some(source, FIRST))
        over.wait(10)
        raise ConnectionResetError

    async def work(peers: Peers, door: Door) -> None:
        try:
            with pytest.raises(Wrong, match="does not end within"):
                await peers.play(door, whole())
        finally:
            over.set()

    run(work, up=stop, deadline_s=1.0)
