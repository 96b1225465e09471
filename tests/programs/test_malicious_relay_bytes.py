"""A relay that replays, injects, flips and cuts: it can deny, and nothing else.

What must hold, whatever it does: what an application gets is a prefix of what was sent to it, a
stream that was cut short ends with a RST and never cleanly, and both programs go on and are well
again as soon as the relay behaves.
"""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from tests.programs.evil_client import is_ended
from tests.programs.evil_relay import Tamper
from tests.programs.harness import wait_for
from tests.programs.relay_between import DOWN, UP, Stage, exchange, stage

__all__ = ["stage"]  # a fixture


def test_a_replayed_session_opens_and_delivers_nothing(stage: Stage) -> None:
    wire = stage.idle_wire()
    with stage.source() as source:
        source.sendall(UP)
        got = bytearray()
        while len(got) < len(DOWN):
            got += source.recv(65536)
        wait_for(lambda: stage.ledger.got[-1] == UP, "all of it has arrived")
    wire.close()
    served = stage.ledger.server.accepted
    opened = stage.entry_point.metric("channels_opened")
    key = stage.suite.identity.public.raw
    for _ in range(3):
        raw = stage.relay.take("reverse-proxy").pair(key, opener=False)
        with raw, suppress(OSError):
            raw.sendall(wire.record["up"])
            assert is_ended(raw)
        with stage.source() as source:
            source.sendall(b"another secret")
            raw = stage.relay.take("entry-point").pair(key, opener=True)
            with raw, suppress(OSError):
                raw.sendall(wire.record["down"])
                assert is_ended(raw)
            source.settimeout(0.1)
            with pytest.raises(TimeoutError):  # it waits, and has got nothing
                source.recv(1)
    assert stage.ledger.server.accepted == served
    assert stage.entry_point.metric("channels_opened") == opened
    stage.check_health()


def handshake_sizes(stage: Stage) -> dict[str, int]:
    """Return how many bytes the inner handshake has each way."""
    wire = stage.idle_wire()
    stage.reverse_proxy.wait_metric("channels", lambda count: count == 1)
    sizes = {way: len(record) for way, record in wire.record.items()}
    wire.close()
    stage.reverse_proxy.wait_metric("channels", lambda count: count == 0)
    return sizes


def test_a_handshake_that_was_tampered_with_makes_no_stream(stage: Stage) -> None:
    sizes = handshake_sizes(stage)
    chance = random.Random(7)
    trials = [
        Tamper(way, kind, offset)
        for way, size in sizes.items()
        for kind in ("flip", "inject", "drop", "repeat", "zero", "fin")
        for offset in (0, chance.randrange(1, 200), chance.randrange(200, size - 100))
    ]
    stalled = 0
    for number, trial in enumerate(trials, start=1):
        if number % 7 == 0:  # or the programs would slow down, as they should
            stage.check_health()
        served = stage.ledger.server.accepted
        with stage.source() as source:
            source.sendall(b"secret")
            wire = stage.relay.join(trial)
            try:
                wait_for(lambda: wire.ended, "both give up", deadline_s=0.5)  # noqa: B023
            except AssertionError:
                stalled += 1  # a record that was made longer is waited for; the deadline is 15 s
            assert wire.tampered.is_set(), trial
            wire.close()
            source.settimeout(0.001)
            # Neither a byte nor a clean end. A RST: it was on what the opener took for a channel.
            with pytest.raises((TimeoutError, ConnectionResetError)):
                raise AssertionError((trial, source.recv(1)))
        assert stage.ledger.server.accepted == served, trial
    assert stalled <= len(trials) // 3
    stage.check_health()


DATA_TRIALS = [
    (way, kind, offset)
    for way in ("up", "down")
    for kind in ("flip", "inject", "drop", "repeat", "zero", "fin", "rst")
    for offset in (0, 1, 3, 4, 5, 30, 16_407, 50_000)
    if (kind, offset) != ("repeat", 0) or way == "up"
]


def test_a_stream_that_was_tampered_with_is_a_prefix_and_a_reset(stage: Stage) -> None:
    partial = 0
    for way, kind, offset in DATA_TRIALS:
        wire = stage.idle_wire()
        stage.reverse_proxy.wait_metric("channels", lambda count: count >= 1)
        wire.tamper = Tamper(way, kind, len(wire.record[way]) + offset)
        trial = f"{kind} {way} at {offset}"
        streams = len(stage.ledger.got)
        ends = len(stage.ledger.ends)
        got = bytearray()
        with suppress(ConnectionResetError), stage.source() as source:  # some are reset that early
            assert exchange(source, UP, got) == "reset", trial
        assert wire.tampered.is_set(), trial
        assert DOWN.startswith(got), trial
        wait_for(lambda: wire.ended, f"both give up: {trial}")  # noqa: B023
        wire.close()
        wait_for(
            lambda: len(stage.ledger.ends) == len(stage.ledger.got),
            f"the destination is told: {trial}",
        )
        for each in stage.ledger.got[streams:]:
            assert UP.startswith(each), trial
            partial += len(each) < len(UP)
        assert stage.ledger.ends[ends:] == ["reset"] * (len(stage.ledger.got) - streams), trial
    assert partial > 5
    stage.check_health()


@pytest.mark.parametrize("reset", [False, True])
def test_an_end_between_two_frames_is_a_reset(stage: Stage, reset: bool) -> None:
    """All that was sent has arrived and nothing is under way: still it is no end of a stream."""
    wire = stage.idle_wire()
    got = bytearray()
    with stage.source() as source:
        source.sendall(UP)
        while len(got) < len(DOWN):
            got += source.recv(65536)
        wait_for(lambda: stage.ledger.got[-1] == UP, "all of it has arrived")
        wire.cut(reset=reset)
        assert exchange(source, b"", got) == "reset"
    assert got == DOWN
    wait_for(lambda: stage.ledger.ends == ["reset"], "the destination is told")
    wire.close()
    for program in (stage.entry_point, stage.reverse_proxy):
        program.wait_log("outcome=lost")
    stage.check_health()
