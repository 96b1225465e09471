"""What a channel carries, both ways: frames in order, through full buffers, at any appetite."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from common import frames
from common.session import PLAINTEXT_SIZE
from tests.common.channel_bench import FIN, PING, PONG, bench, data, tear_down
from tests.common.loops import LOOPS, on_both_loops, run, turns, until


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
