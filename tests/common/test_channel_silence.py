"""When silence ends a channel, and what only looks like silence."""

from __future__ import annotations

import asyncio

from common import frames
from common.channel import SILENT_HEARTBEATS, Channel
from tests.common.channel_bench import PONG, Recorder, bench, data
from tests.common.loops import on_both_loops, run, turns, until
from tests.common.sessions import session_pair


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
