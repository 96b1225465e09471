"""One tenant: who of its visitors gets which link, who waits, and what it is told of them."""

from __future__ import annotations

import contextlib
import socket

import pytest

from common.wire import Declined, Demand, Ready
from relay_server.public import tenant as module
from tests.common.loops import on_both_loops, until
from tests.common.sessions import tcp_pair
from tests.relay_server.owners import ALICE
from tests.relay_server.public_stage import FakeLink, Stage, played


def demand(link: FakeLink) -> Demand:
    """Return what the tenant was told last of visitors that wait."""
    found = [each for each in link.told if isinstance(each, Demand)]
    return found[-1] if found else Demand(0, 0)


@on_both_loops
def test_the_tenant_is_told_how_many_wait_and_when_that_is_over(kind: str) -> None:
    async def play(stage: Stage) -> None:
        link = stage.link(ALICE)
        port, raw = stage.expose(link, 1), stage.expose(link, 2, raw=True)
        waiting = [stage.visitor(port, b"hello") for _ in range(3)]
        waiting += [stage.visitor(raw) for _ in range(2)]
        await until(lambda: demand(link) == Demand(3, 2), "the need is told")
        told = len(link.told)
        assert told < 8  # together, not one by one
        services = [await stage.channel(ALICE) for _ in range(3)]
        await until(lambda: all(each.visits for each in services), "three are served")
        for _ in range(2):
            stage.says(stage.link(ALICE, "raw"), Declined("unreachable", ""))
        await until(lambda: demand(link) == Demand(0, 0), "nobody waits")
        for each in waiting[3:]:
            await each.is_reset()

    played(kind, play)


@on_both_loops
@pytest.mark.parametrize("raw", [False, True])
def test_nobody_waits_longer_than_a_dial_takes(
    kind: str, raw: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.05)

    async def play(stage: Stage) -> None:
        link = stage.link(ALICE)
        port = stage.expose(link, raw=raw, hold_s=100.0)
        visitor = stage.visitor(port)
        await visitor.is_reset()
        assert stage.public.guide.visitors == 0
        # While the tenant is away it asked for more patience.
        link.lose("gone")
        late = stage.visitor(port)
        await until(lambda: stage.public.guide.visitors == 1, "the visitor waits")
        back = stage.link(ALICE)
        await until(lambda: demand(back) != Demand(0, 0), "it is told of who waits")
        assert not late.look().reset

    played(kind, play)


@on_both_loops
@pytest.mark.parametrize("raw", [False, True])
def test_who_hangs_up_while_it_waits_gives_its_place_back(kind: str, raw: bool) -> None:
    async def play(stage: Stage) -> None:
        link = stage.link(ALICE)
        port = stage.expose(link, raw=raw, hold_s=100.0)
        link.lose("gone")
        stays, leaves = stage.visitor(port), stage.visitor(port)
        await until(lambda: stage.public.guide.visitors == 2, "both wait")
        leaves.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        leaves.sock.close()

        def swept() -> bool:
            stage.public.sweep(stage.loop.time())
            return stage.public.guide.visitors == 1

        await until(swept, "its place is free")
        assert not stays.look().reset

    played(kind, play)


@on_both_loops
def test_a_raw_visitor_is_joined_with_the_link_that_is_ready(kind: str) -> None:
    async def play(stage: Stage) -> None:
        port = stage.expose(stage.link(ALICE), raw=True)
        link = stage.link(ALICE, "raw")
        link.sock, far = tcp_pair()
        visitor = stage.visitor(port, b"hello")
        await until(lambda: link.paired, "the link is told")
        stage.says(link, Ready())
        got = bytearray()
        await until(lambda: _read(far, got) == b"hello", "the bytes have come")
        far.send(b"welcome")
        await visitor.gets(b"welcome")
        far.close()
        await until(lambda: visitor.look().ended or visitor.reset, "the end has come")
        visitor.sock.close()
        await until(lambda: not stage.public.guide.raw, "the stream is over")
        assert stage.public.guide.visitors == 0
        assert stage.tenant(ALICE).links == 1

    played(kind, play)


@on_both_loops
def test_a_raw_visitor_whose_machine_is_dead_is_let_go(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(stage: Stage) -> None:
        port = stage.expose(stage.link(ALICE), raw=True)
        link = stage.link(ALICE, "raw")
        link.sock, far = tcp_pair()
        stage.visitor(port)
        await until(lambda: link.paired, "the link is told")
        stage.says(link, Ready())
        (raw,) = stage.public.guide.raw
        stage.public.sweep(stage.loop.time())
        assert stage.public.guide.raw
        monkeypatch.setattr(type(raw._joint), "is_dead", lambda joint, silent_s: silent_s == 3.0)
        stage.public.sweep(stage.loop.time())
        assert not stage.public.guide.raw
        assert stage.public.guide.visitors == 0
        far.close()

    played(kind, play)


def _read(sock: socket.socket, got: bytearray) -> bytes:
    with contextlib.suppress(BlockingIOError):
        got += sock.recv(1 << 16)
    return bytes(got)
