"""Streams of bulk data take short turns while small messages of others pass."""

from __future__ import annotations

import pytest

from common.fairness import FAIRNESS, SHORT, SHORT_TURNS, SMALL_MESSAGE, Fairness
from tests.common.loops import on_both_loops, run, until
from tests.common.talk import End, Talk, both_ends, new_line, other, pattern

NOBODY = -1


@pytest.fixture(autouse=True)
def nothing_small_lately() -> None:
    for _ in range(SHORT_TURNS):
        FAIRNESS.short_turn(NOBODY)


def test_turns_are_short_for_a_while_after_a_small_message_of_another() -> None:
    fairness = Fairness()
    assert not fairness.short_turn(1)
    fairness.small_message(2)
    assert [fairness.short_turn(1) for _ in range(SHORT_TURNS + 1)] == [True] * SHORT_TURNS + [
        False
    ]


def test_a_stream_does_not_slow_itself() -> None:
    fairness = Fairness()
    fairness.small_message(1)
    assert not fairness.short_turn(1)
    assert fairness.short_turn(2)
    assert not fairness.short_turn(1)


def test_messages_that_go_on_keep_the_turns_short() -> None:
    fairness = Fairness()
    for _ in range(10 * SHORT_TURNS):
        fairness.small_message(2)
        assert fairness.short_turn(1)


@on_both_loops
@both_ends
def test_a_bulk_stream_makes_room_for_the_small_messages_of_another(kind: str, end: End) -> None:
    """Both ends of it do: the one that reads the local connection and the one that decrypts."""

    async def main() -> None:
        line, quiet_line = await new_line(), await new_line()
        bulk, quiet = Talk(line), Talk(quiet_line)
        sender, receiver = bulk.streams[end], bulk.streams[other(end)]
        bulk[end].to_send += pattern(200_000)
        bulk[end].step()
        quiet.streams[end]._on_local_readable()  # nothing is there, so nothing is noted
        sender._on_local_readable()
        assert sender.sent > SHORT
        receiver.channel._on_readable()
        assert receiver.received > SHORT
        before = sender.sent, receiver.received

        bulk[end].to_send += pattern(200_000)
        bulk[end].step()
        quiet[end].sock.send(bytes(SMALL_MESSAGE))
        quiet.streams[end]._on_local_readable()
        assert quiet.streams[end].sent == SMALL_MESSAGE
        sender._on_local_readable()
        receiver.channel._on_readable()
        assert 0 < sender.sent - before[0] <= SHORT
        assert 0 < receiver.received - before[1] <= SHORT

        await bulk.until(lambda: receiver.received == 400_000, "the rest")
        await until(lambda: quiet.streams[other(end)].received == SMALL_MESSAGE, "the message")
        for talk in (bulk, quiet):
            for user in talk.users.values():
                user.shut = True
            await talk.ends()
            talk.line.close()

    run(kind, main)


@on_both_loops
@both_ends
def test_what_arrives_through_a_channel_counts_as_well(kind: str, end: End) -> None:
    async def main() -> None:
        line = await new_line()
        talk = Talk(line)
        talk[end].sock.send(b"keystroke")
        talk.streams[end]._on_local_readable()
        fd = line.channels[other(end)].fd
        for _ in range(SHORT_TURNS):
            FAIRNESS.short_turn(NOBODY)
        assert not FAIRNESS.short_turn(NOBODY)
        await until(lambda: talk.streams[other(end)].received, "the keystroke")
        assert FAIRNESS.short_turn(NOBODY)
        assert not FAIRNESS.short_turn(fd)
        talk[end].shut = talk[other(end)].shut = True
        await talk.ends()
        line.close()

    run(kind, main)
