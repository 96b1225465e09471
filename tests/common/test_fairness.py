"""Streams of bulk data take short turns while small messages of others pass."""

from __future__ import annotations

import pytest

from common import frames
from common.fairness import (
    FAIRNESS,
    OWN_MESSAGES,
    SHORT,
    SHORT_TURNS,
    SMALL_MESSAGE,
    Fairness,
    Share,
)
from tests.common.loops import on_both_loops, run, turns, until
from tests.common.talk import End, Talk, both_ends, new_line, other, pattern

BULK = SMALL_MESSAGE + 1


@pytest.fixture(autouse=True)
def nothing_small_lately() -> None:
    FAIRNESS.short_turns = 0


def test_turns_are_short_for_a_while_after_a_small_message() -> None:
    fairness = Fairness()
    bulk, quiet = Share(fairness=fairness), Share(fairness=fairness)
    bulk.took(BULK)
    assert fairness.short_turns < 1
    quiet.took(SMALL_MESSAGE)
    for left in reversed(range(SHORT_TURNS)):
        bulk.took(SHORT)
        assert fairness.short_turns == left
    bulk.took(BULK)
    assert fairness.short_turns < 1


def test_a_bulk_stream_slows_nobody_with_small_messages_of_its_own() -> None:
    """Two uploads whose services acknowledge every block."""
    fairness = Fairness()
    one, two = Share(fairness=fairness), Share(fairness=fairness)
    for _ in range(1000):
        for each in (one, two):
            each.took(BULK)
            for _ in range(OWN_MESSAGES):
                each.took(8)
    assert fairness.short_turns < 1


def test_a_bulk_stream_does_not_take_the_room_of_another_s_messages() -> None:
    fairness = Fairness()
    bulk, quiet = Share(fairness=fairness), Share(fairness=fairness)
    bulk.took(BULK)
    quiet.took(1)
    bulk.took(8)
    assert fairness.short_turns == SHORT_TURNS


def test_whoever_has_made_others_short_is_short_as_well() -> None:
    """Small messages are no means to get more of the loop than others."""
    fairness = Fairness()
    sly = Share(fairness=fairness)
    sly.took(1)
    assert fairness.short_turns
    sly.took(BULK)
    assert fairness.short_turns == SHORT_TURNS - 1


def test_a_stream_that_is_over_its_bulk_counts_again() -> None:
    fairness = Fairness()
    stream = Share(fairness=fairness)
    stream.took(BULK)
    for _ in range(OWN_MESSAGES):
        stream.took(1)
    assert fairness.short_turns < 1
    stream.took(1)
    assert fairness.short_turns == SHORT_TURNS


def test_signs_of_life_do_not_count() -> None:
    fairness = Fairness()
    idle = Share(ignored=26, fairness=fairness)
    idle.took(26)
    assert fairness.short_turns < 1
    idle.took(27)
    assert fairness.short_turns


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
def test_what_arrives_through_a_channel_counts_and_pings_do_not(kind: str, end: End) -> None:
    async def main() -> None:
        line = await new_line()
        talk = Talk(line)
        line.channels[end].ping()
        await turns()
        assert FAIRNESS.short_turns < 1
        line.channels[end].write(frames.encode(frames.DATA, b"k"))
        await until(lambda: talk.streams[other(end)].received, "the keystroke")
        assert FAIRNESS.short_turns == SHORT_TURNS
        for each in talk.users.values():
            each.shut = True
        await talk.ends()
        line.close()

    run(kind, main)
