"""Streams between two users, with a channel in the middle."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import frames, sockets, stream
from common.outcome import Outcome
from tests.common.loops import LOOPS, on_both_loops, run, until
from tests.common.talk import ENDS, End, Talk, both_ends, new_line, other, pattern

FIN, RESET = frames.encode(frames.FIN), frames.encode(frames.RESET)


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
