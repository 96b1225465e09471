"""Raw links: what was exposed raw is dialled and joined, and nothing else is."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from common.addresses import HostPort
from common.exposure_grammar import Exposure, parse_exposures
from common.fairness import Share
from common.forwarding import CopyForwarder, OnEnd
from common.link import login
from common.tls import unwrap
from common.wire import Declined, Ready, Visit
from reverse_proxy.houses import VisitorsHouse
from reverse_proxy.informing import Informer
from reverse_proxy.metrics import Metrics
from reverse_proxy.raw import RawJoiner
from reverse_proxy.visitors_file import VisitorsFile
from tests.common.fake_relay import FakeRelay, Session, new_client
from tests.common.loops import on_both_loops, run, turns, until


def visit(number: int) -> Visit:
    return Visit(number, "192.0.2.7", 4711, "198.51.100.1", 443)


class Bench:
    """A joiner, a destination, and the relay's end of its links."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.get_running_loop()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        at = HostPort(*self.listener.getsockname())
        with socket.create_server(("127.0.0.1", 0)) as closed:
            nowhere = HostPort(*closed.getsockname())
        texts = [f"443:{at},raw", f"80:{at}", f"53:{at}/udp", f"444:{at},raw,proxy-v1"]
        exposures = dict(enumerate(parse_exposures([*texts, f"445:{nowhere},raw"]), start=1))
        self.metrics = Metrics()
        self.ends = 0
        self.joiner = RawJoiner(
            self._house(exposures),
            Informer(VisitorsFile(str(folder / "visitors.json"))),
            self._make_forwarder,
            self._ended,
        )
        self.sessions: list[Session] = []
        self.relay = FakeRelay(self._serve)

    def _house(self, exposures: dict[int, Exposure]) -> VisitorsHouse:
        return VisitorsHouse(self.loop, self.metrics, exposures)

    def _make_forwarder(
        self, source: socket.socket, sink: socket.socket, share: Share, on_end: OnEnd
    ) -> CopyForwarder:
        return CopyForwarder(self.loop, source, sink, share, on_end, self.metrics)

    def _ended(self) -> None:
        self.ends += 1

    async def _serve(self, session: Session) -> None:
        await session.welcome()
        self.sessions.append(session)
        await asyncio.Event().wait()

    async def call(self, call: Visit) -> tuple[Session, asyncio.Task[None]]:
        """Let the relay call one more link; return its end, and the joiner at work."""
        count = len(self.sessions)
        link = await login(self.relay.address, new_client("reverse-proxy"), lambda: None, "raw")
        await until(lambda: len(self.sessions) > count, "the relay has the link")
        await self.sessions[count].send(call)
        heard = await link.wait()
        return self.sessions[count], asyncio.create_task(self.joiner.join(link, heard))

    async def accepted(self) -> socket.socket:
        found: list[socket.socket] = []

        def accepts() -> bool:
            with contextlib.suppress(BlockingIOError):
                found.append(self.listener.accept()[0])
            return bool(found)

        await until(accepts, "the destination is dialled")
        found[0].setblocking(False)
        return found[0]

    def dialled(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            self.listener.accept()[0].close()
            return True
        return False


def played(kind: str, folder: Path, play: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench(folder)
        try:
            await play(bench)
        finally:
            bench.joiner.abort()
            await bench.relay.close()
            bench.listener.close()

    run(kind, main)


async def reads(sock: socket.socket, what: bytes) -> None:
    got = bytearray()

    def come() -> bool:
        with contextlib.suppress(BlockingIOError):
            got.extend(sock.recv(1 << 16))
        return what in got

    await until(come, f"{what!r} has come")


@on_both_loops
@pytest.mark.parametrize(
    ("number", "first"),
    [(1, b""), (4, b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n")],
    ids=["plain", "greeted"],
)
def test_a_visitor_is_joined_with_what_was_exposed(
    kind: str, number: int, first: bytes, tmp_path: Path
) -> None:
    async def play(bench: Bench) -> None:
        relay, joining = await bench.call(visit(number))
        service = await bench.accepted()
        assert isinstance(await relay.receive(), Ready)
        await joining
        raw = unwrap(relay.tls)
        raw.setblocking(False)
        raw.send(b"hello")
        await reads(service, first + b"hello")
        service.send(b"welcome")
        await reads(raw, b"welcome")
        assert len(bench.joiner.joints) == 1
        service.close()
        raw.close()
        await until(lambda: bench.ends == 1, "the stream is over")
        assert not bench.joiner.joints
        assert bench.metrics.streams_opened == 1

    played(kind, tmp_path, play)


@on_both_loops
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (0, "unknown-exposure"),
        (9, "unknown-exposure"),
        (2, "unknown-exposure"),
        (3, "unknown-exposure"),
        (5, "unreachable"),
    ],
    ids=["none", "made up", "not raw", "UDP", "closed"],
)
def test_what_was_not_exposed_raw_is_declined_and_not_dialled(
    kind: str, number: int, code: str, tmp_path: Path
) -> None:
    async def play(bench: Bench) -> None:
        relay, joining = await bench.call(visit(number))
        answer = await relay.receive()
        assert isinstance(answer, Declined)
        assert answer.code == code
        await joining
        assert not bench.dialled()
        assert not bench.joiner.joints
        assert bench.metrics.streams_refused == 1

    played(kind, tmp_path, play)


@on_both_loops
def test_a_link_that_is_given_up_while_it_is_joined_leaves_nothing(
    kind: str, tmp_path: Path
) -> None:
    async def play(bench: Bench) -> None:
        joined = 0
        for count in range(1, 10):
            _, joining = await bench.call(visit(1))
            await turns(count)
            joining.cancel()
            await asyncio.gather(joining, return_exceptions=True)
            joined += not joining.cancelled()  # it was too late
        assert len(bench.joiner.joints) == joined < 9

    played(kind, tmp_path, play)


@on_both_loops
def test_a_stream_to_a_dead_machine_is_ended(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(bench: Bench) -> None:
        relay, joining = await bench.call(visit(1))
        service = await bench.accepted()
        await relay.receive()
        await joining
        (joint,) = bench.joiner.joints
        bench.joiner.tick(30.0)
        assert bench.joiner.joints
        monkeypatch.setattr(type(joint), "is_dead", lambda joint, silent_s: silent_s == 30.0)
        bench.joiner.tick(30.0)
        assert not bench.joiner.joints
        assert bench.metrics.streams_failed == 1
        service.close()

    played(kind, tmp_path, play)
