"""One suite for both kinds of forwarder, on both kinds of loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import forwarding
from common.fairness import FAIRNESS, SHORT, SHORT_TURNS, SMALL_MESSAGE, Share
from common.forwarding import CopyForwarder, Forwarder, SpliceForwarder
from common.pipes import Pipes, can_splice
from common.sockets import close_with_reset
from relay_server.metrics import Metrics
from tests.common.loops import LOOPS, run, turns, until
from tests.common.sessions import tcp_pair

WAYS = ["copy", *(["splice"] if can_splice() else [])]
everywhere = pytest.mark.parametrize(("kind", "way"), [(k, w) for k in LOOPS for w in WAYS])


class Bench:
    """``near`` -> source, sink -> ``far``."""

    def __init__(self, way: str, buffer: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self.metrics = Metrics()
        self.pipes = Pipes()
        self.way = way
        self.near, self.source = tcp_pair(buffer)
        self.sink, self.far = tcp_pair(buffer)
        self.ends: list[OSError | None] = []
        self.forwarder: Forwarder
        if way == "splice":
            self.forwarder = SpliceForwarder(
                loop, self.source, self.sink, Share(), self.ends.append, self.pipes, self.metrics
            )
        else:
            self.forwarder = CopyForwarder(
                loop, self.source, self.sink, Share(), self.ends.append, self.metrics
            )
        self.to_send = bytearray()
        self.received = bytearray()
        self.far_end = ""
        self.forwarder.start()

    def step(self) -> None:
        if self.to_send and self.near.fileno() >= 0:
            with contextlib.suppress(BlockingIOError):
                del self.to_send[: self.near.send(self.to_send)]

    def read(self) -> None:
        try:
            while not self.far_end:
                piece = self.far.recv(1 << 16)
                self.received += piece
                self.far_end = "" if piece else "fin"
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.far_end = "rst"

    async def until(
        self, condition: Callable[[], object], what: str, *, reading: bool = True
    ) -> None:
        def stepped() -> object:
            self.step()
            if reading:
                self.read()
            return condition()

        await until(stepped, what)

    async def clog(self) -> int:
        """Send until the sink takes no more; return how many bytes went."""
        total = len(self.to_send)
        last, still = -1, 0
        while still < 20:
            self.step()
            await asyncio.sleep(0.001)
            still = still + 1 if len(self.to_send) == last else 0
            last = len(self.to_send)
        return total - last

    async def close(self) -> None:
        self.forwarder.stop()
        self.forwarder.stop()
        assert self.pipes.lent == 0
        loop = asyncio.get_running_loop()
        for sock in (self.source, self.sink):
            assert not loop.remove_reader(sock.fileno())
            assert not loop.remove_writer(sock.fileno())
        self.pipes.close()
        for sock in (self.near, self.source, self.sink, self.far):
            sock.close()


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@everywhere
def test_bytes_and_their_end_arrive_in_order(kind: str, way: str) -> None:
    async def main() -> None:
        b = Bench(way)
        b.to_send += pattern(5 << 20)
        await b.until(lambda: not b.to_send, "sent")
        b.near.shutdown(socket.SHUT_WR)
        await b.until(lambda: b.far_end, "the end")
        assert (b.far_end, b.received == pattern(5 << 20)) == ("fin", True)
        assert b.ends == [None]
        assert b.forwarder.ended
        assert b.forwarder.moved == 5 << 20
        if way == "splice":
            assert b.metrics.splice_calls > 0
            assert b.metrics.bytes_copied == SMALL_MESSAGE  # the first read: it may have been all
            assert b.metrics.bytes_spliced == (5 << 20) - SMALL_MESSAGE
        else:
            assert (b.metrics.bytes_spliced, b.metrics.bytes_copied) == (0, 5 << 20)
        await b.close()

    run(kind, main)


@everywhere
def test_a_clogged_sink_stops_the_reading_and_then_all_arrives(kind: str, way: str) -> None:
    async def main() -> None:
        b = Bench(way, 16 * 1024)
        b.to_send += pattern(8 << 20)
        went = await b.clog()
        assert went < 4 << 20
        assert b.forwarder.blocked
        assert b.pipes.lent == (way == "splice")
        assert not asyncio.get_running_loop().remove_reader(b.source.fileno())
        await b.until(lambda: not b.to_send, "sent")
        b.near.shutdown(socket.SHUT_WR)
        await b.until(lambda: b.far_end, "the end")
        assert b.received == pattern(8 << 20)
        assert b.forwarder.moved == 8 << 20
        assert b.pipes.lent == 0
        assert b.ends == [None]
        await b.close()

    run(kind, main)


@everywhere
def test_an_idle_forwarder_holds_no_pipe(kind: str, way: str) -> None:
    async def main() -> None:
        b = Bench(way)
        for number in range(50):
            b.to_send += pattern(number * 1000 + 1)
            size = len(b.received) + number * 1000 + 1
            await b.until(lambda: len(b.received) == size, "received")  # noqa: B023
            assert (b.pipes.lent, b.forwarder.blocked) == (0, False)
        await b.close()

    run(kind, main)


@everywhere
def test_turns_are_short_while_small_messages_of_others_pass(kind: str, way: str) -> None:
    async def main() -> None:
        b = Bench(way)

        def moved_in_a_turn() -> int:
            b.near.send(pattern(300_000))
            before = b.forwarder.moved
            b.forwarder._on_readable()
            return b.forwarder.moved - before

        Share().took(1)  # a stream of its own
        assert 0 < moved_in_a_turn() <= SMALL_MESSAGE + SHORT
        assert 0 < FAIRNESS.short_turns < SHORT_TURNS
        await b.until(lambda: len(b.received) == b.forwarder.moved > 200_000, "all")
        FAIRNESS.short_turns = 0
        assert moved_in_a_turn() > SMALL_MESSAGE + SHORT
        b.near.send(b"an acknowledgement")  # of the same stream
        await b.until(lambda: b.received.endswith(b"acknowledgement"), "the message")
        assert FAIRNESS.short_turns < 1
        await b.close()

    run(kind, main)


@everywhere
def test_a_reset_of_the_source_is_told(kind: str, way: str) -> None:
    async def main() -> None:
        b = Bench(way)
        b.to_send += b"abc"
        await b.until(lambda: b.received, "received")
        close_with_reset(b.near)
        await b.until(lambda: b.ends, "told")
        (error,) = b.ends
        assert isinstance(error, ConnectionResetError)
        assert b.forwarder.ended
        await b.close()

    run(kind, main)


@everywhere
@pytest.mark.parametrize("clogged", [False, True])
def test_a_reset_of_the_sink_is_told_when_it_matters(kind: str, way: str, clogged: bool) -> None:
    async def main() -> None:
        b = Bench(way, 16 * 1024)
        b.to_send += pattern(4 << 20)
        if clogged:
            await b.clog()
        close_with_reset(b.far)
        await b.until(lambda: b.ends, "told", reading=False)
        (error,) = b.ends
        assert error is not None
        assert error.errno in (errno.ECONNRESET, errno.EPIPE)
        assert b.forwarder.ended
        await b.close()

    run(kind, main)


@everywhere
def test_an_end_that_cannot_be_passed_on_is_an_error(kind: str, way: str) -> None:
    async def main() -> None:
        b = Bench(way)
        close_with_reset(b.far)
        await turns()
        b.near.shutdown(socket.SHUT_WR)
        await b.until(lambda: b.ends, "told", reading=False)
        assert isinstance(b.ends[0], OSError)
        await b.close()

    run(kind, main)


@everywhere
def test_a_stop_with_bytes_held_tells_nothing_and_keeps_nothing(kind: str, way: str) -> None:
    async def main() -> None:
        b = Bench(way, 16 * 1024)
        b.to_send += pattern(4 << 20)
        await b.clog()
        b.forwarder.stop()
        assert (b.pipes.lent, b.forwarder.blocked) == (0, False)
        await turns()
        assert b.ends == []
        await b.close()

    run(kind, main)


@everywhere
def test_both_directions_on_the_same_sockets(kind: str, way: str) -> None:
    """As a pair has them: one reads what the other writes to, and each ends on its own."""

    async def main() -> None:
        b = Bench(way, 16 * 1024)
        loop = asyncio.get_running_loop()
        back_ends: list[OSError | None] = []
        back: Forwarder
        if way == "splice":
            back = SpliceForwarder(
                loop, b.sink, b.source, Share(), back_ends.append, b.pipes, b.metrics
            )
        else:
            back = CopyForwarder(loop, b.sink, b.source, Share(), back_ends.append, b.metrics)
        back.start()
        b.to_send += pattern(2 << 20)
        answer, got, ended = bytearray(pattern(3 << 20)), bytearray(), False

        def step() -> bool:
            nonlocal ended
            with contextlib.suppress(BlockingIOError):
                if answer:
                    del answer[: b.far.send(answer)]
            with contextlib.suppress(BlockingIOError):
                piece = b.near.recv(1 << 16)
                got.extend(piece)
                ended = not piece
            return not b.to_send and not answer

        await b.until(step, "sent")
        b.near.shutdown(socket.SHUT_WR)
        await b.until(lambda: b.ends and step(), "the first end")
        assert not back.ended
        b.far.send(b"after the end of the other way")
        b.far.shutdown(socket.SHUT_WR)
        await b.until(lambda: step() and ended, "the second end")
        assert b.received == pattern(2 << 20)
        assert got == pattern(3 << 20) + b"after the end of the other way"
        assert (b.ends, back_ends) == ([None], [None])
        back.stop()
        await b.close()

    run(kind, main)


@pytest.mark.skipif("splice" not in WAYS, reason="no splice here")
@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("stopped", [False, True])
def test_without_a_descriptor_for_a_pipe_the_bytes_wait_in_the_socket(
    kind: str, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "RETRY_S", 0.005)

    async def main() -> None:
        b = Bench("splice")
        take, tries = b.pipes.take, 0

        def none_left() -> tuple[int, int]:
            nonlocal tries
            tries += 1
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(b.pipes, "take", none_left)
        b.to_send += pattern(9000)
        await b.until(lambda: tries >= 3, "asked again")
        assert b.received == pattern(9000)[:SMALL_MESSAGE]
        assert b.ends == []
        if stopped:
            b.forwarder.stop()
            before = tries
            await asyncio.sleep(0.02)  # longer than a retry, which must not come
            assert tries == before
        monkeypatch.setattr(b.pipes, "take", take)
        if not stopped:
            await b.until(lambda: b.received == pattern(9000), "arrives")
        await b.close()

    run(kind, main)


@pytest.mark.skipif("splice" not in WAYS, reason="no splice here")
@pytest.mark.parametrize("kind", LOOPS)
def test_pipes_of_one_page_work_too(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel gives past ``pipe-user-pages-soft``."""
    monkeypatch.setattr("common.pipes.PIPE_SIZE", 4096)

    async def main() -> None:
        b = Bench("splice", 16 * 1024)
        b.to_send += pattern(1 << 20)
        await b.clog()
        await b.until(lambda: not b.to_send, "sent")
        b.near.shutdown(socket.SHUT_WR)
        await b.until(lambda: b.far_end, "the end")
        assert b.received == pattern(1 << 20)
        await b.close()

    run(kind, main)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(LOOPS),
    st.sampled_from(WAYS),
    st.sampled_from([0, 16 * 1024]),
    st.lists(st.one_of(st.integers(1, 400_000), st.sampled_from(["read", "turn"])), max_size=12),
    st.sampled_from(["fin", "reset", "stop"]),
)
def test_any_chunks_and_any_reading(
    kind: str, way: str, buffer: int, script: list[int | str], end: str
) -> None:
    async def main() -> None:
        b = Bench(way, buffer)
        said = bytearray()
        for action in script:
            if isinstance(action, int):
                b.to_send += pattern(action)
                said.extend(pattern(action))
            elif action == "read":
                b.read()
            b.step()
            await asyncio.sleep(0)
        if end == "reset":
            close_with_reset(b.near)
            await b.until(lambda: b.ends, "told")
            assert b.ends[0] is not None
        elif end == "stop":
            b.forwarder.stop()
            assert b.ends == []
        else:
            await b.until(lambda: not b.to_send, "sent")
            b.near.shutdown(socket.SHUT_WR)
            await b.until(lambda: b.far_end, "the end")
            assert b.ends == [None]
            assert b.received == said
            assert b.forwarder.moved == len(said)
        assert said.startswith(b.received)
        await b.close()

    run(kind, main)
