"""Two streams joined by a channel, as entry-point and reverse-proxy have them, and a user's socket
at each end: ``source``, the entry-point's ``Stream``, TLS, the reverse-proxy's ``Stream``,
``destination``. Where it matters what goes over the channel, one end is raw frames instead."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import frames, sockets, stream
from common.channel import Channel
from common.outcome import Outcome
from common.session import Session
from common.sockets import close_with_reset
from common.stream import Stream
from tests.common.loops import LOOPS, on_both_loops, run, turns, until
from tests.common.sessions import opener_session, session_pair, tcp_pair

End = Literal["source", "destination"]
ENDS: tuple[End, End] = ("source", "destination")
FIN, RESET = frames.encode(frames.FIN), frames.encode(frames.RESET)

both_ends = pytest.mark.parametrize("end", ENDS)


def other(end: End) -> End:
    return ENDS[end == "source"]


class Idle:
    """Takes the channel back after a stream; counts what it is told."""

    def __init__(self) -> None:
        self.lost: list[str] = []

    def on_data(self, data: memoryview) -> int:
        raise frames.not_allowed(frames.DATA, "on an idle channel")

    def on_frame(self, kind: int, payload: bytes) -> None:
        if kind not in (frames.PONG, frames.DONE):
            raise frames.not_allowed(kind, "on an idle channel")

    def on_drained(self) -> None:
        pass

    def on_tick(self) -> None:
        pass

    def on_lost(self, reason: str) -> None:
        self.lost.append(reason)


class User:
    """The program at one end: a socket in the hands of a test."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = bytearray()
        self.end: str = ""
        """"fin" or "rst", as it was seen."""
        self.to_send = bytearray()
        self.shut = False
        self.reads = True

    def step(self) -> None:
        """Send and take what goes without waiting."""
        if self.sock.fileno() < 0:
            return
        try:
            if self.to_send:
                with contextlib.suppress(BlockingIOError):
                    del self.to_send[: self.sock.send(self.to_send)]
            elif self.shut:
                self.shut = False
                self.sock.shutdown(socket.SHUT_WR)
            if self.reads and not self.end:
                with contextlib.suppress(BlockingIOError):
                    piece = self.sock.recv(1 << 16)
                    self.received += piece
                    self.end = "" if piece else "fin"
        except (ConnectionResetError, BrokenPipeError):
            self.end = "rst"
        except OSError:  # shutdown of a connection that was reset
            self.end = "rst"

    def reset(self) -> None:
        close_with_reset(self.sock)


class Line:
    """A channel between two ends, and the streams it carries one after the other."""

    def __init__(self, one: Session, two: Session, heartbeat_s: float) -> None:
        loop = asyncio.get_running_loop()
        self.heartbeat_s = heartbeat_s
        self.idle = {end: Idle() for end in ENDS}
        self.channels = {
            end: Channel(loop, tls, self.idle[end], heartbeat_s)
            for end, tls in zip(ENDS, (one, two), strict=True)
        }

    def close(self) -> None:
        for each in self.channels.values():
            each.close()


class Talk:
    """One stream on a line, users at both ends included."""

    def __init__(self, line: Line, buffer: int = 0, preface: bytes = b"") -> None:
        loop = asyncio.get_running_loop()
        self.line = line
        self.users: dict[End, User] = {}
        self.streams: dict[End, Stream] = {}
        self.ended: list[Stream] = []
        for end in ENDS:
            user, local = tcp_pair(buffer)
            self.users[end] = User(user)
            self.streams[end] = Stream(
                loop, line.channels[end], local, end, self._on_end, line.heartbeat_s
            )
        self.streams["destination"].begin()
        self.streams["source"].begin(preface)

    def _on_end(self, stream: Stream) -> None:
        assert stream.outcome is not None
        assert stream.local.fileno() < 0
        self.ended.append(stream)
        end = next(each for each in ENDS if self.streams[each] is stream)
        stream.channel.handler = self.line.idle[end]

    def __getitem__(self, end: End) -> User:
        return self.users[end]

    @property
    def outcomes(self) -> dict[End, Outcome | None]:
        return {end: each.outcome for end, each in self.streams.items()}

    async def until(self, condition: Callable[[], object], what: str) -> None:
        def step() -> object:
            for each in self.users.values():
                each.step()
            return condition()

        await until(step, what)

    async def ends(self) -> dict[End, Outcome | None]:
        """Wait until both streams have ended, and both users know."""

        def over() -> bool:
            alive = [each for each in self.users.values() if each.sock.fileno() >= 0 and each.reads]
            return len(self.ended) == 2 and all(each.end for each in alive)

        await self.until(over, f"both streams end: {self.outcomes}")
        await turns()
        assert len(self.ended) == 2
        for each in self.users.values():
            each.sock.close()
        return self.outcomes


async def new_line(buffer: int = 0, heartbeat_s: float = 60) -> Line:
    return Line(*await session_pair(buffer), heartbeat_s)


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@on_both_loops
@both_ends
def test_half_close_then_a_long_answer(kind: str, end: End) -> None:
    """One side says all it has and the other answers 3 MiB later; both buffers are small."""

    async def main() -> None:
        line = await new_line(16 * 1024)
        talk = Talk(line, 16 * 1024)
        talk[end].to_send += b"question"
        talk[end].shut = True
        await talk.until(lambda: talk[other(end)].end, "the half-close arrives")
        assert talk[other(end)].end == "fin"
        assert talk.ended == []
        answer = pattern(3 << 20)
        talk[other(end)].to_send += answer
        talk[other(end)].shut = True
        assert await talk.ends() == dict.fromkeys(ENDS, Outcome.FINISHED)
        assert talk[other(end)].received == b"question"
        assert talk[end].received == answer
        assert talk[end].end == "fin"
        sent, received = talk.streams[end], talk.streams[other(end)]
        assert (sent.sent, sent.received) == (received.received, received.sent) == (8, len(answer))
        assert not line.channels[end].closed
        line.close()

    run(kind, main)


@on_both_loops
def test_both_directions_at_once_are_slowed_and_complete(kind: str) -> None:
    async def main() -> None:
        line = await new_line(16 * 1024)
        talk = Talk(line, 16 * 1024)
        for end in ENDS:
            talk[end].to_send += pattern(2 << 20)
            talk[end].shut = True
        assert set((await talk.ends()).values()) == {Outcome.FINISHED}
        for end in ENDS:
            assert talk[end].received == pattern(2 << 20)
        line.close()

    run(kind, main)


@on_both_loops
@both_ends
def test_a_reader_that_stalls_stops_the_writer_and_nothing_piles_up(kind: str, end: End) -> None:
    async def main() -> None:
        line = await new_line(16 * 1024)
        talk = Talk(line, 16 * 1024)
        talk[end].to_send += pattern(8 << 20)
        talk[end].shut = True
        talk[other(end)].reads = False
        seen = -1
        while seen != talk.streams[end].sent:  # until nothing moves any more
            seen = talk.streams[end].sent
            for _ in range(50):
                talk[end].step()
                await asyncio.sleep(0.001)
        assert 0 < seen < 2 << 20
        assert line.channels[other(end)].paused
        assert len(line.channels[other(end)]._stash) <= 256 * 1024
        assert len(line.channels[end]._session._unsent) <= stream.CHUNK_SIZE + 1024
        for each in line.channels.values():
            each.tick()
            each.tick()
        assert talk.ended == []
        talk[other(end)].reads = talk[other(end)].shut = True
        assert set((await talk.ends()).values()) == {Outcome.FINISHED}
        assert talk[other(end)].received == pattern(8 << 20)
        line.close()

    run(kind, main)


@on_both_loops
@both_ends
@pytest.mark.parametrize("clogged", [False, True])
def test_a_reset_at_one_end_is_a_reset_at_the_other(kind: str, end: End, clogged: bool) -> None:
    async def main() -> None:
        line = await new_line(16 * 1024)
        talk = Talk(line, 16 * 1024)
        talk[end].to_send += pattern(4 << 20 if clogged else 10)
        talk[other(end)].reads = not clogged
        if clogged:
            await talk.until(lambda: line.channels[other(end)].paused, "clogged")
        else:
            await talk.until(lambda: talk[other(end)].received, "received")
        talk[end].reset()
        talk[other(end)].reads = True
        outcomes = await talk.ends()
        assert talk[other(end)].end == "rst"
        assert outcomes[end] is Outcome(f"reset-by-{end}")
        # The RESET frame may drown when the channel is clogged; then the loss of it is told.
        assert outcomes[other(end)] in (outcomes[end], Outcome.LOST)
        assert clogged or outcomes[other(end)] is outcomes[end]
        assert all(each.closed for each in line.channels.values())

    run(kind, main)


@on_both_loops
@both_ends
def test_a_reset_after_a_half_close_is_a_reset(kind: str, end: End) -> None:
    """Nobody reads from a connection that has said its last word; the tick finds the RST."""

    async def main() -> None:
        line = await new_line()
        talk = Talk(line)
        talk[end].shut = True
        await talk.until(lambda: talk[other(end)].end == "fin", "FIN")
        talk[end].reset()
        talk[other(end)].end = ""

        def ticked() -> bool:
            for each in ENDS:
                line.channels[each].handler.on_tick()
            return len(talk.ended) == 2

        await until(ticked, "the RST is noticed")
        assert set(talk.outcomes.values()) == {Outcome(f"reset-by-{end}")}
        talk[other(end)].sock.close()

    run(kind, main)


@on_both_loops
@both_ends
@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_channel_that_ends_is_never_a_clean_end(kind: str, end: End, how: str) -> None:
    async def main() -> None:
        line = await new_line()
        talk = Talk(line)
        talk["source"].to_send += b"half of it"
        await talk.until(lambda: talk["destination"].received, "received")
        getattr(line.channels[end], how)()
        await talk.until(lambda: talk.outcomes[other(end)], "noticed")
        assert talk.outcomes[other(end)] is Outcome.LOST
        await talk.until(lambda: talk[other(end)].end, "told to the user")
        assert talk[other(end)].end == "rst"
        talk.streams[end].stop(Outcome.STOPPED, "test")
        await talk.ends()

    run(kind, main)


@on_both_loops
@both_ends
def test_a_loss_is_told_once_to_a_stream_that_writes_just_then(kind: str, end: End) -> None:
    async def main() -> None:
        line = await new_line()
        talk = Talk(line)
        talk[end].to_send += b"x" * 100_000
        talk[end].shut = True
        talk[end].step()
        talk[end].step()
        line.channels[other(end)].abort()
        talk.streams[other(end)].stop(Outcome.STOPPED, "test")
        assert (await talk.ends())[end] is Outcome.LOST
        assert line.idle[end].lost == []

    run(kind, main)


@on_both_loops
@both_ends
def test_stopping_resets_both_users(kind: str, end: End) -> None:
    async def main() -> None:
        line = await new_line()
        talk = Talk(line)
        talk.streams[end].stop(Outcome.STOPPED, "the grace is over")
        talk.streams[end].stop(Outcome.LOST, "again")
        outcomes = await talk.ends()
        assert outcomes == {end: Outcome.STOPPED, other(end): Outcome(f"reset-by-{end}")}
        assert [talk[each].end for each in ENDS] == ["rst", "rst"]

    run(kind, main)


@on_both_loops
def test_a_hundred_streams_one_after_the_other_on_one_channel(kind: str) -> None:
    """Ends in every order, tails that arrive while the next stream has begun."""

    async def main() -> None:
        line = await new_line(16 * 1024)
        for number in range(100):
            talk = Talk(line)
            sizes = {"source": number * 401 % 70_000, "destination": number * 997 % 70_000}
            for end in ENDS:
                talk[end].to_send += pattern(sizes[end])
            first = ENDS[number % 2]
            talk[first].shut = True
            if number % 3:
                talk[other(first)].shut = True
            else:
                await talk.until(lambda: talk[other(first)].end, "FIN")  # noqa: B023
                talk[other(first)].shut = True
            assert set((await talk.ends()).values()) == {Outcome.FINISHED}
            for end in ENDS:
                assert talk[other(end)].received == pattern(sizes[end])
        assert all(not each.closed for each in line.channels.values())
        line.close()

    run(kind, main)


class Far:
    """The acceptor's end of a channel as raw frames."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self.tls = tls
        self.wire = bytearray()
        self.ended = False

    def read(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            while not self.ended:
                piece = b""
                with contextlib.suppress(ConnectionResetError):
                    piece = self.tls.read(1 << 16)
                self.ended = not piece
                self.wire += piece
        return bytes(self.wire)


class Half:
    """A stream whose far end is raw frames."""

    def __init__(self, near: Session, far: ssl.SSLSocket, end: End) -> None:
        loop = asyncio.get_running_loop()
        self.far = Far(far)
        self.idle = Idle()
        self.channel = Channel(loop, near, self.idle, 60)
        user, self.local = tcp_pair()
        self.user = User(user)
        self.ended: list[Stream] = []
        self.stream = Stream(loop, self.channel, self.local, end, self._on_end, 60)

    def _on_end(self, stream: Stream) -> None:
        self.ended.append(stream)
        self.channel.handler = self.idle

    async def outcome(self) -> tuple[Outcome | None, str]:
        def over() -> bool:
            self.user.step()
            return bool(self.ended and self.user.end)

        await until(over, "the stream ends and the user sees it")
        assert len(self.ended) == 1
        return self.stream.outcome, self.stream.detail

    def close(self) -> None:
        self.channel.close()
        self.user.sock.close()
        self.far.tls.close()


async def half(end: End) -> Half:
    return Half(*await opener_session(), end)


OPEN = frames.encode_open(frames.Open("0", "tcp", "localhost", 80, "192.0.2.1", 4711))


@on_both_loops
def test_the_first_bytes_go_out_with_the_open(kind: str) -> None:
    async def main() -> None:
        h = await half("source")
        h.user.sock.send(b"GET /")
        await turns()
        h.stream.begin(OPEN)
        await until(lambda: h.far.read(), "OPEN")
        assert h.far.wire == OPEN + frames.encode(frames.DATA, b"GET /")
        h.stream.stop(Outcome.STOPPED, "")
        h.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("first", ["nothing", "fin"])
def test_an_open_goes_out_without_bytes(kind: str, first: str) -> None:
    async def main() -> None:
        h = await half("source")
        if first == "fin":
            h.user.sock.shutdown(socket.SHUT_WR)
            await turns()
        h.stream.begin(OPEN)
        expected = OPEN + (FIN if first == "fin" else b"")
        await until(lambda: h.far.read() == expected, "OPEN")
        h.stream.stop(Outcome.STOPPED, "")
        h.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("fin_first", [False, True])
def test_a_refusal_resets_the_source_and_leaves_the_channel_fit_for_use(
    kind: str, fin_first: bool
) -> None:
    async def main() -> None:
        h = await half("source")
        h.stream.begin(OPEN)
        if fin_first:
            h.user.sock.shutdown(socket.SHUT_WR)
            await until(lambda: h.far.read() == OPEN + FIN, "FIN")
        h.far.tls.write(frames.encode_refused(frames.Refused("unreachable", "no such host")))
        assert await h.outcome() == (Outcome.REFUSED, "unreachable: no such host")
        assert h.user.end == "rst"
        await until(lambda: h.far.read() == OPEN + FIN, "one FIN")
        assert not h.channel.closed
        h.close()

    run(kind, main)


@on_both_loops
@both_ends
@pytest.mark.parametrize(
    ("wire", "words"),
    [
        (FIN + frames.encode(frames.DATA, b"x"), "DATA is not allowed after FIN"),
        (FIN + FIN, "FIN is not allowed within a stream"),
        (OPEN, "OPEN is not allowed within a stream"),
        (frames.encode(frames.REFUSED, b"\xff"), ""),
    ],
)
def test_what_is_not_allowed_is_a_loss(kind: str, end: End, wire: bytes, words: str) -> None:
    async def main() -> None:
        h = await half(end)
        h.stream.begin()
        h.far.tls.write(wire)
        outcome, detail = await h.outcome()
        assert outcome is Outcome.LOST
        assert detail.startswith(f"protocol error: {words}")
        assert h.user.end in ("rst", "fin")  # FIN came first in some; after it nothing more
        assert h.channel.closed
        h.close()

    run(kind, main)


@on_both_loops
def test_a_destination_is_never_refused(kind: str) -> None:
    async def main() -> None:
        h = await half("destination")
        h.stream.begin()
        h.far.tls.write(frames.encode_refused(frames.Refused("x", "y")))
        outcome, detail = await h.outcome()
        assert (outcome, h.user.end) == (Outcome.LOST, "rst")
        assert detail == "protocol error: REFUSED is not allowed within a stream"
        h.close()

    run(kind, main)


@on_both_loops
@both_ends
def test_a_reset_frame_resets_the_user(kind: str, end: End) -> None:
    async def main() -> None:
        h = await half(end)
        h.stream.begin()
        h.far.tls.write(frames.encode(frames.DATA, b"begun") + RESET)
        assert await h.outcome() == (Outcome(f"reset-by-{other(end)}"), "")
        assert h.user.end == "rst"
        assert h.channel.closed
        h.close()

    run(kind, main)


@on_both_loops
def test_a_source_that_was_reset_before_it_began(kind: str) -> None:
    async def main() -> None:
        h = await half("source")
        h.user.reset()
        await turns()
        h.stream.begin(OPEN)
        assert h.stream.outcome is Outcome.RESET_BY_SOURCE
        assert len(h.ended) == 1
        h.close()

    run(kind, main)


@on_both_loops
@both_ends
def test_a_dead_local_connection_is_noticed_while_nobody_reads_from_it(
    kind: str, end: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        line = await new_line(16 * 1024)
        talk = Talk(line, 16 * 1024)
        talk[end].to_send += pattern(8 << 20)
        talk[other(end)].reads = False
        await talk.until(lambda: not talk.streams[end]._reading, "not reading")
        line.channels[end].tick()
        assert talk.ended == []
        asked: list[float] = []

        def dead(sock: socket.socket, silent_s: float) -> bool:
            asked.append(silent_s)
            return sock is talk.streams[end].local

        monkeypatch.setattr(stream, "is_dead", dead)
        line.channels[end].handler.on_tick()
        assert asked == [180]
        assert talk.outcomes[end] is Outcome(f"reset-by-{end}")
        assert talk.streams[end].detail == "the connection is dead"
        talk[other(end)].reads = True
        await talk.ends()
        assert talk[end].end == "rst"
        monkeypatch.setattr(stream, "is_dead", sockets.is_dead)

    run(kind, main)


actions = st.lists(
    st.tuples(
        st.sampled_from(ENDS),
        st.one_of(
            st.integers(1, 300_000),
            st.sampled_from(
                ["shut", "shut", "reset", "stall", "read", "tick", "ping", "cut", "turn"]
            ),
        ),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(LOOPS), st.sampled_from([0, 16 * 1024]), actions)
def test_any_script_on_both_ends(
    kind: str, buffer: int, script: list[tuple[End, int | str]]
) -> None:
    """What was received is always a beginning of what was sent; it is all of it whenever the
    outcome is ``finished`` or the user saw a clean end; everything else is a RST."""

    async def main() -> None:
        line = await new_line(buffer)
        talk = Talk(line, buffer)
        said = {end: bytearray() for end in ENDS}
        shut: set[End] = set()
        clean = True
        for end, action in script:
            user = talk[end]
            gone = user.sock.fileno() < 0
            if isinstance(action, int):
                if end not in shut and not gone:
                    said[end] += pattern(action)
                    user.to_send += pattern(action)
            elif action == "shut" and end not in shut and not gone:
                user.shut = True
                shut.add(end)
            elif action == "reset" and not gone:
                clean = False
                user.reset()
            elif action in ("stall", "read"):
                user.reads = action == "read"
            elif action == "tick":
                line.channels[end].handler.on_tick()
            elif action == "ping":
                line.channels[end].ping()
            elif action == "cut":
                clean = clean and len(talk.ended) == 2
                line.channels[end].lose("cut")
            for each in ENDS:
                talk[each].step()
            await asyncio.sleep(0)
        for end in ENDS:
            talk[end].reads = True
            if end not in shut:
                talk[end].shut = True
        while len(talk.ended) < 2:
            for channel in line.channels.values():
                channel.handler.on_tick()
            step = asyncio.get_running_loop().time() + 0.05
            await talk.until(
                lambda: (
                    len(talk.ended) == 2 or asyncio.get_running_loop().time() > step  # noqa: B023
                ),
                "ends",
            )
        outcomes = await talk.ends()
        for end in ENDS:
            user, sender = talk[other(end)], said[end]
            assert sender.startswith(user.received)
            if user.end == "fin" and outcomes[end] is Outcome.FINISHED:
                assert user.received == sender
            assert outcomes[end] is not None
            if outcomes[end] is Outcome.FINISHED:
                assert talk.streams[end].sent == len(sender)
        if clean:
            assert set(outcomes.values()) == {Outcome.FINISHED}
            for end in ENDS:
                assert talk[other(end)].received == said[end]
                assert talk[end].end == "fin"
        words = set(outcomes.values()) - {Outcome.LOST, Outcome.FINISHED}
        assert len(words) <= 2
        line.close()

    run(kind, main)
