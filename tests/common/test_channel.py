"""One end is a Channel; the other end is raw frames on a TLS session, read and written by hand."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import frames
from common.channel import SILENT_HEARTBEATS, Channel
from common.frames import FrameReader
from common.session import PLAINTEXT_SIZE
from common.sockets import close_with_reset
from common.tls import unwrap
from tests.common.loops import LOOPS, on_both_loops, run, turns, until
from tests.common.sessions import opener_session, session_pair

PING, PONG, FIN = (frames.encode(each) for each in (frames.PING, frames.PONG, frames.FIN))


def data(payload: bytes) -> bytes:
    return frames.encode(frames.DATA, payload)


class Recorder:
    """A handler that takes as much as it is allowed to, and writes down what it is told."""

    def __init__(self) -> None:
        self.room = 1 << 62
        self.received = bytearray()
        self.frames: list[tuple[int, bytes]] = []
        self.drained = 0
        self.ticks = 0
        self.lost: list[str] = []

    def on_data(self, data: memoryview) -> int:
        assert not self.lost
        taken = min(len(data), self.room)
        self.received += data[:taken]
        self.room -= taken
        return taken

    def on_frame(self, kind: int, payload: bytes) -> None:
        assert not self.lost
        if kind == frames.RESET:
            raise frames.not_allowed(kind, "here")
        self.frames.append((kind, bytes(payload)))

    def on_drained(self) -> None:
        assert not self.lost
        self.drained += 1

    def on_tick(self) -> None:
        self.ticks += 1

    def on_lost(self, reason: str) -> None:
        self.lost.append(reason)


class Raw:
    """The far end: a TLS session in the hands of a test."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self.tls = tls
        self._reader = FrameReader()
        self.frames: list[tuple[int, bytes]] = []
        self.ended: BaseException | bool = False

    def read(self) -> list[tuple[int, bytes]]:
        """Take in what is there; return every frame so far."""
        while not self.ended:
            try:
                # TLS tells a RST as an end; the socket under it knows better.
                with contextlib.suppress(BlockingIOError):
                    socket.socket.recv(self.tls, 1, socket.MSG_PEEK)
                piece = self.tls.read(1 << 16)
            except ssl.SSLWantReadError:
                break
            except OSError as error:
                self.ended = error
                break
            if not piece:
                self.ended = True
                break
            view, position = memoryview(piece), 0
            while True:
                kind, payload, position = self._reader.next(view, position)
                if not kind:
                    break
                self.frames.append((kind, bytes(payload)))
        return self.frames

    async def send(self, wire: bytes) -> None:
        view = memoryview(wire)
        loop = asyncio.get_running_loop()
        end = loop.time() + 10
        while view:
            try:
                view = view[self.tls.write(view) :]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                assert loop.time() < end, "the channel does not read"
                await asyncio.sleep(0)

    def close(self) -> None:
        self.tls.close()

    def reset(self) -> None:
        close_with_reset(unwrap(self.tls))


class Bench:
    def __init__(self, channel: Channel, handler: Recorder, far: Raw) -> None:
        self.channel, self.handler, self.far = channel, handler, far

    async def lost(self) -> str:
        await until(lambda: self.handler.lost, "the channel is lost")
        await turns()
        assert len(self.handler.lost) == 1
        assert self.channel.closed
        return self.handler.lost[0]


async def bench(buffer: int = 0, heartbeat_s: float = 0.05) -> Bench:
    near, far = await opener_session(buffer)
    handler = Recorder()
    channel = Channel(asyncio.get_running_loop(), near, handler, heartbeat_s)
    return Bench(channel, handler, Raw(far))


def tear_down(bench: Bench) -> None:
    bench.channel.close()
    bench.far.close()


@on_both_loops
def test_frames_arrive_in_order_whatever_pieces_they_come_in(kind: str) -> None:
    async def main() -> None:
        b = await bench()
        wire = data(b"one") + PONG + data(b"two" * 50_000) + frames.encode(frames.GOAWAY) + FIN
        for start in range(0, len(wire), 7001):
            await b.far.send(wire[start : start + 7001])
            await asyncio.sleep(0)
        await until(lambda: len(b.handler.frames) == 3, "all frames are there")
        assert b.handler.received == b"one" + b"two" * 50_000
        assert [each[0] for each in b.handler.frames] == [frames.PONG, frames.GOAWAY, frames.FIN]
        assert b.channel.retired
        tear_down(b)

    run(kind, main)


@on_both_loops
def test_byte_by_byte(kind: str) -> None:
    async def main() -> None:
        b = await bench()
        for byte in data(b"abc") + PING + FIN:
            await b.far.send(bytes([byte]))
            await asyncio.sleep(0)
        await until(lambda: b.handler.frames, "FIN")
        await until(lambda: b.far.read() == [(frames.PONG, b"")], "PONG")
        assert b.handler.received == b"abc"
        tear_down(b)

    run(kind, main)


@on_both_loops
def test_a_clogged_handler_stops_the_reading_and_loses_nothing(kind: str) -> None:
    async def main() -> None:
        b = await bench(buffer=16 * 1024)
        payload = bytes(range(256)) * 8192  # 2 MiB, more than all buffers on the way
        sending = asyncio.create_task(b.far.send(data(payload) + FIN + PING))
        b.handler.room = 10
        while b.handler.frames == []:
            await until(lambda: b.channel.paused or b.handler.frames, "paused")
            await turns()
            if b.handler.frames:
                break
            before = len(b.handler.received)
            assert b.handler.room == 0
            await turns()
            assert len(b.handler.received) == before
            b.handler.room = 100_000 if before < len(payload) // 2 else 1 << 62
            b.channel.resume()
        await sending
        assert b.handler.received == payload
        await until(lambda: b.far.read() == [(frames.PONG, b"")], "PONG after the FIN")
        tear_down(b)

    run(kind, main)


@on_both_loops
def test_a_frame_behind_data_waits_for_the_data(kind: str) -> None:
    async def main() -> None:
        b = await bench()
        b.handler.room = 2
        await b.far.send(data(b"abcd") + FIN + PING)
        await until(lambda: b.channel.paused, "paused")
        await turns()
        assert (bytes(b.handler.received), b.handler.frames) == (b"ab", [])
        b.channel.resume()  # no room: it pauses again at once
        assert b.channel.paused
        b.handler.room = 2
        b.channel.resume()
        assert (bytes(b.handler.received), len(b.handler.frames)) == (b"abcd", 1)
        tear_down(b)

    run(kind, main)


@on_both_loops
def test_a_writer_is_told_when_the_kernel_has_taken_all(kind: str) -> None:
    async def main() -> None:
        b = await bench(buffer=16 * 1024)
        payload = bytes(range(256)) * 4096  # 1 MiB
        assert not b.channel.write(data(payload))
        assert not b.channel.write(FIN)  # in order, behind the data
        b.channel.ping()
        await turns()
        assert b.handler.drained == 0
        await until(lambda: len(b.far.read()) and b.far.frames[-1][0] == frames.PING, "all of it")
        await until(lambda: b.handler.drained, "drained")
        assert b.handler.drained == 1
        kinds = [each[0] for each in b.far.frames]
        assert b"".join(each for _, each in b.far.frames) == payload
        assert kinds[-2:] == [frames.FIN, frames.PING]
        tear_down(b)

    run(kind, main)


@on_both_loops
def test_pings_to_a_clogged_writer_owe_one_pong_in_all(kind: str) -> None:
    async def main() -> None:
        b = await bench(buffer=16 * 1024)
        assert not b.channel.write(data(bytes(1 << 20)))
        for _ in range(1000):
            await b.far.send(PING)
        await b.far.send(FIN)
        await until(lambda: b.handler.frames, "the pings have been read")
        await until(lambda: b.far.read() and b.handler.drained, "drained")
        await until(lambda: b.far.read()[-1] == (frames.PONG, b""), "the one PONG")
        await turns()
        assert b.far.read().count((frames.PONG, b"")) == 1
        tear_down(b)

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("how", ["close", "reset"])
def test_the_end_of_the_connection_is_told_once(kind: str, how: str) -> None:
    async def main() -> None:
        b = await bench()
        await b.far.send(data(b"last words"))
        await until(lambda: b.handler.received, "the data")
        getattr(b.far, how)()
        reason = await b.lost()
        # OpenSSL makes an end of a RST in some versions; it is a loss either way.
        assert reason in {
            "the other side ended the connection",
            "reading failed: Connection reset by peer",
        }
        b.channel.lose("again")
        b.channel.tick()
        b.channel.close()
        b.channel.abort()
        assert b.handler.lost == [reason]
        assert not b.channel.write(PING)

    run(kind, main)


@on_both_loops
def test_what_came_before_the_end_is_delivered_before_it(kind: str) -> None:
    async def main() -> None:
        b = await bench()
        await b.far.send(data(b"abc") + FIN)
        b.far.close()  # in the socket before the channel has looked once
        await b.lost()
        assert (bytes(b.handler.received), b.handler.frames) == (b"abc", [(frames.FIN, b"")])

    run(kind, main)


@on_both_loops
def test_an_end_behind_data_that_waits_is_told_after_the_data(kind: str) -> None:
    """The other side may close an idle channel; the stream before it is not cut short by that."""

    async def main() -> None:
        b = await bench()
        b.handler.room = 1
        await b.far.send(data(b"abc") + FIN)
        b.far.close()
        await until(lambda: b.channel.paused or b.handler.lost, "paused")
        await turns()
        assert b.handler.lost == []
        b.handler.room = 10
        b.channel.resume()
        await b.lost()
        assert (bytes(b.handler.received), b.handler.frames) == (b"abc", [(frames.FIN, b"")])

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize(
    ("wire", "words"),
    [
        (b"\x63\x00\x00\x00", "a frame of type 99 with 0 bytes is not allowed"),
        (frames.header(frames.DATA, 0), "a DATA frame without data is not allowed"),
        (frames.encode(frames.RESET), "RESET is not allowed here"),
    ],
)
def test_what_is_not_allowed_ends_the_channel_with_a_reset(
    kind: str, wire: bytes, words: str
) -> None:
    async def main() -> None:
        b = await bench()
        await b.far.send(data(b"ok") + wire + data(b"never"))
        assert await b.lost() == f"protocol error: {words}"
        assert b.handler.received == b"ok"
        await until(lambda: (b.far.read() or True) and b.far.ended, "the far end sees it")
        assert isinstance(b.far.ended, ConnectionResetError)
        b.far.close()

    run(kind, main)


@on_both_loops
def test_bytes_that_are_no_tls_record_end_the_channel(kind: str) -> None:
    async def main() -> None:
        b = await bench()
        raw = unwrap(b.far.tls)
        raw.send(b"GET / HTTP/1.1\r\n\r\n")
        assert (await b.lost()).startswith("reading failed: ")
        raw.close()

    run(kind, main)


@on_both_loops
def test_a_handler_may_close_the_channel_from_within(kind: str) -> None:
    async def main() -> None:
        b = await bench()

        class Closing(Recorder):
            def on_data(self, data: memoryview) -> int:
                b.channel.close()
                return 0

        b.channel.handler = closing = Closing()
        await b.far.send(data(b"x") + PING + FIN)
        await until(lambda: b.channel.closed, "closed")
        await turns()
        assert (closing.frames, closing.lost) == ([], [])
        b.far.close()

    run(kind, main)


@on_both_loops
def test_a_failed_write_is_a_loss_and_not_an_exception(kind: str) -> None:
    async def main() -> None:
        b = await bench()
        b.channel.pause()
        b.far.reset()
        b.channel.write(PING)
        b.channel.write(PING)
        assert (await b.lost()).startswith("writing failed: ")

    run(kind, main)


@on_both_loops
def test_silence_is_asked_about_and_then_ends_the_channel(kind: str) -> None:
    async def main() -> None:
        b = await bench()
        b.channel.tick()  # heard at the start
        b.channel.write(data(b"x"))  # a sign of life, and yet the next tick sends one as well
        b.channel.tick()
        ping = (frames.PING, b"")
        await until(lambda: b.far.read() == [ping, (frames.DATA, b"x"), ping], "a PING each")
        await b.far.send(PONG)
        await until(lambda: b.handler.frames, "PONG")
        b.channel.tick()
        b.channel.tick()
        assert b.handler.ticks == 4
        b.channel.tick()
        assert b.handler.ticks == 4
        assert (await b.lost()).startswith("silent for ")
        b.far.close()

    run(kind, main)


@on_both_loops
def test_a_record_that_takes_longer_than_silence_may_is_no_silence(kind: str) -> None:
    """On a slow path, shared by many: nothing can be decrypted before the last byte has come."""

    async def main() -> None:
        near, far = await session_pair()
        handler = Recorder()
        channel = Channel(asyncio.get_running_loop(), near, handler, 0.05)
        far._tls.write(data(b"slowly" * 2000))
        record = far._outgoing.read()
        step = len(record) // (4 * SILENT_HEARTBEATS)
        for start in range(0, len(record), step):
            far.sock.send(record[start : start + step])
            await until(lambda: channel._heard, "something has come")
            channel.tick()
        await until(lambda: len(handler.received) == 12_000, "all of it")
        assert not handler.lost
        channel.close()
        far.close()

    run(kind, main)


@on_both_loops
def test_a_side_that_does_not_read_goes_on_pinging_and_is_not_lost(kind: str) -> None:
    async def main() -> None:
        b = await bench(heartbeat_s=60)
        b.channel.pause()
        for _ in range(5 * SILENT_HEARTBEATS):
            b.channel.tick()
        await until(lambda: len(b.far.read()) == 5 * SILENT_HEARTBEATS, "a PING each")
        assert not b.handler.lost
        b.far.reset()
        await turns()
        b.channel.tick()
        assert await b.lost() == "the connection to the relay is dead"

    run(kind, main)


@on_both_loops
def test_closing_lets_the_kernel_finish_and_abort_does_not(kind: str) -> None:
    async def main() -> None:
        b = await bench()
        b.channel.write(data(b"bye") + FIN)
        b.channel.close()
        await until(lambda: (b.far.read() or True) and b.far.ended, "the end")
        assert b.far.frames == [(frames.DATA, b"bye"), (frames.FIN, b"")]
        assert b.far.ended is True
        assert b.handler.lost == []
        b.far.close()
        b = await bench()
        b.channel.abort()
        await until(lambda: (b.far.read() or True) and b.far.ended, "the end")
        assert isinstance(b.far.ended, ConnectionResetError)
        b.far.close()

    run(kind, main)


@on_both_loops
def test_nothing_stays_registered_with_the_loop(kind: str) -> None:
    """The descriptor's number is used again at once, and no callback of the old channel comes."""

    async def main() -> None:
        for _ in range(30):
            b = await bench(buffer=16 * 1024)
            b.channel.write(data(bytes(1 << 20)))  # a writer is registered as well
            await b.far.send(data(b"x"))
            b.channel.abort()
            loop = asyncio.get_running_loop()
            assert not loop.remove_reader(b.channel._fd)
            assert not loop.remove_writer(b.channel._fd)
            b.far.close()
            assert not b.handler.lost

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("end", ["close", "abort", "lose"])
def test_what_tls_keeps_is_freed_at_the_end_whoever_still_has_the_channel(
    kind: str, end: str
) -> None:
    """Who had it may be in a cycle of references, and OpenSSL's memory is not the collector's."""

    def sessions() -> int:
        return sum(isinstance(each, ssl.SSLObject) for each in gc.get_objects())

    async def main() -> None:
        gc.collect()
        before = sessions()
        b = await bench()
        assert sessions() == before + 1
        getattr(b.channel, end)(*["over"] * (end == "lose"))
        assert sessions() == before
        b.far.close()

    run(kind, main)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(LOOPS),
    st.lists(
        st.one_of(
            st.binary(min_size=1, max_size=30).map(data),
            st.integers(1, 3 * PLAINTEXT_SIZE).map(lambda size: data(bytes(size))),
            st.just(PING),
            st.just(FIN),
        ),
        max_size=8,
    ),
    st.lists(st.integers(0, 200_000), max_size=6),
)
def test_any_frames_to_a_handler_with_any_appetite(
    kind: str, wire: list[bytes], rooms: list[int]
) -> None:
    async def main() -> None:
        b = await bench(buffer=16 * 1024)
        b.handler.room = 0 if rooms else 1 << 62
        sending = asyncio.create_task(b.far.send(b"".join([*wire, PONG])))
        meals = iter(rooms)
        while not b.handler.frames or b.handler.frames[-1][0] != frames.PONG:
            await until(
                lambda: b.channel.paused or (frames.PONG, b"") in b.handler.frames,
                "paused or done",
            )
            if b.channel.paused:
                b.handler.room = next(meals, 1 << 62)
                b.channel.resume()
        await sending
        sent = [each for each in wire if each[0] == frames.DATA]
        assert b.handler.received == b"".join(each[4:] for each in sent)
        assert [each[0] for each in b.handler.frames] == [frames.FIN] * wire.count(FIN) + [
            frames.PONG
        ]
        if PING in wire:
            await until(lambda: (frames.PONG, b"") in b.far.read(), "PONG")
        tear_down(b)

    run(kind, main)
