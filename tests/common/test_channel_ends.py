"""How a channel ends: told once, behind what came before it, and with nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import ssl

import pytest

from common import frames
from common.tls import unwrap
from tests.common.channel_bench import FIN, PING, Recorder, bench, data
from tests.common.loops import on_both_loops, run, turns, until


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
