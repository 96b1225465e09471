from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest

from common import frames
from common.addresses import HostPort
from common.errors import ProtocolError
from common.outcome import Outcome
from common.refusals import Refusal
from reverse_proxy import flows
from reverse_proxy.flows import FlowDesk
from reverse_proxy.houses import Request
from reverse_proxy.metrics import Metrics
from reverse_proxy.policy import Policy
from tests.common.loops import on_both_loops, run, turns, until


class FakeChannel:
    """Writes down what is sent."""

    def __init__(self) -> None:
        self.handler: Any = None
        self.sent = b""
        self.drained = True
        self.closed = self.paused = False

    def write(self, data: bytes) -> bool:
        self.sent += data
        return self.drained

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True

    abort = close

    def frames(self) -> list[tuple[int, bytes]]:
        """Return what was sent since the last time."""
        view, self.sent = memoryview(self.sent), b""
        reader, position, found = frames.FrameReader(), 0, []
        while position < len(view):
            kind, payload, position = reader.next(view, position)
            found.append((kind, bytes(payload)))
        return found


class Bench:
    """A stream of datagrams to a destination that the test holds."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        judge: Callable[[str, str, int], Refusal | None] = lambda *_: None,
    ) -> None:
        self.server = server(port)
        self.port: int = self.server.getsockname()[1]
        self.channel = FakeChannel()
        self.metrics = Metrics()
        self.ends: list[tuple[Outcome, str]] = []
        self.refusals: list[Refusal] = []
        channel: Any = self.channel
        self.desk = FlowDesk(
            asyncio.get_running_loop(),
            channel,
            Request(HostPort("", 0), HostPort(host, self.port), "udp", "", HostPort("", 0), judge),
            self.metrics,
            lambda outcome, detail: self.ends.append((outcome, detail)),
            self.refusals.append,
        )
        self.desk.start()

    def flow(self, number: int) -> None:
        frame = frames.encode_flow(frames.Flow(number, "192.0.2.1", 5000 + number))
        self.desk.on_frame(frames.FLOW, frame[frames.HEADER_SIZE :])

    def datagram(self, number: int, data: bytes) -> None:
        self.desk.on_frame(frames.DATAGRAM, frames.FLOW_ID.pack(number) + data)

    def end(self) -> None:
        self.server.close()
        self.desk.on_frame(frames.FIN, b"")


def server(port: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", port))
    sock.settimeout(5)
    return sock


@on_both_loops
def test_each_flow_has_a_socket_and_hears_the_destination_only(kind: str) -> None:
    async def main() -> None:
        bench = Bench()
        sources = []
        for number in (1, 2):
            bench.flow(number)
            bench.datagram(number, bytes([number]))
            data, source = bench.server.recvfrom(64)
            assert data == bytes([number])
            sources.append(source)
        assert len(set(sources)) == 2
        with server() as stranger:
            stranger.sendto(b"not for you", sources[0])
        bench.server.sendto(b"", sources[1])
        await until(lambda: bench.channel.sent, "the answer")
        assert bench.channel.frames() == [(frames.DATAGRAM, frames.FLOW_ID.pack(2))]
        bench.datagram(3, b"of no flow")
        bench.end()
        assert bench.channel.frames() == [(frames.FIN, b""), (frames.DONE, b"")]
        assert bench.ends == [(Outcome.FINISHED, "")]

    run(kind, main)


@on_both_loops
def test_a_flow_hears_on_after_the_destination_was_away(kind: str) -> None:
    async def main() -> None:
        bench = Bench()
        bench.flow(1)
        bench.server.close()
        for _ in range(3):
            bench.datagram(1, b"nobody")
            await asyncio.sleep(0.01)  # the ICMP error comes after the call
        with server(bench.port) as late:
            bench.datagram(1, b"somebody")
            data, source = late.recvfrom(64)
            assert data == b"somebody"
            late.sendto(b"answer", source)
            await until(lambda: bench.channel.sent, "the answer")
        assert bench.channel.frames() == [(frames.DATAGRAM, frames.FLOW_ID.pack(1) + b"answer")]
        assert bench.metrics.datagrams_dropped
        bench.end()

    run(kind, main)


@on_both_loops
def test_a_flow_without_a_descriptor_is_sent_back(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    async def main() -> None:
        bench = Bench()
        with monkeypatch.context() as patch:
            patch.setattr(FlowDesk, "_connect", no_more)
            bench.flow(1)
        assert bench.channel.frames() == [(frames.FORGET, frames.FLOW_ID.pack(1))]
        bench.datagram(1, b"late")
        bench.flow(2)
        bench.datagram(2, b"fine")
        assert bench.server.recv(64) == b"fine"
        bench.end()

    run(kind, main)


@on_both_loops
def test_flows_are_bounded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "MOST", 3)

    async def main() -> None:
        bench = Bench()
        for number in range(1, 6):
            bench.flow(number)
            await turns(1)
        assert [kind for kind, _ in bench.channel.frames()] == [frames.FORGET] * 2
        bench.end()

    run(kind, main)


@on_both_loops
def test_what_waits_for_the_channel_is_bounded_and_counted(kind: str) -> None:
    async def main() -> None:
        bench = Bench()
        bench.flow(1)
        bench.datagram(1, b"go")
        _, source = bench.server.recvfrom(64)
        bench.channel.drained = False
        for number in range(40):
            bench.server.sendto(bytes([number]) * 60_000, source)
            await until(lambda: bench.metrics.datagrams_sent > number, "it is read")  # noqa: B023
        assert bench.channel.sent == b""
        bench.channel.drained = True
        bench.desk.on_drained()
        found = bench.channel.frames()
        assert found[-1][1] == frames.FLOW_ID.pack(1) + bytes([39]) * 60_000
        assert len(found) + bench.metrics.datagrams_dropped == 40
        assert sum(len(payload) for _, payload in found) <= 1024 * 1024
        bench.end()

    run(kind, main)


@on_both_loops
def test_what_breaks_the_rules_is_a_protocol_error(kind: str) -> None:
    async def main() -> None:
        bench = Bench()
        bench.flow(1)
        for frame, payload in [
            (frames.DATAGRAM, b"\0"),
            (frames.DATAGRAM, frames.FLOW_ID.pack(0)),
            (frames.FORGET, b"\0"),
            (frames.FLOW, b"\xc1"),
            (frames.OPEN, b""),
        ]:
            with pytest.raises(ProtocolError):
                bench.desk.on_frame(frame, payload)
        with pytest.raises(ProtocolError):
            bench.flow(1)
        bench.end()

    run(kind, main)


@on_both_loops
def test_a_guarded_address_is_refused(kind: str) -> None:
    async def main() -> None:
        bench = Bench("169.254.169.254", judge=Policy().check)
        assert [each.code for each in bench.refusals] == ["guarded-address"]
        assert not bench.ends
        bench.server.close()

    run(kind, main)


@on_both_loops
def test_a_name_is_resolved_once_and_its_address_is_judged(kind: str) -> None:
    async def main() -> None:
        asked: list[tuple[str, str, int]] = []

        def judge(host: str, address: str, port: int) -> Refusal | None:
            asked.append((host, address, port))
            return None if address == "127.0.0.1" else Refusal("not-permitted", address)

        bench = Bench("localhost", judge=judge)
        assert bench.channel.paused
        await until(lambda: not bench.channel.paused, "it is resolved")
        bench.flow(1)
        bench.datagram(1, b"hello")
        assert bench.server.recv(64) == b"hello"
        assert asked[-1] == ("localhost", "127.0.0.1", bench.port)
        bench.end()

    run(kind, main)
