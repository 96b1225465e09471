"""The path between a client and the relay, broken in every way while bytes are on it.

Whatever happens there, a stream is whole or is visibly aborted, at both of its ends; new streams
work afterwards; and nothing is left over. Streams go through a route and through a public port, so
the near path (entry-point to relay) carries one kind and the far path (reverse-proxy to relay) all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tests.battery.bench import Battery
from tests.battery.chaos import ChaosProxy, End
from tests.battery.peers import Peers, play_all
from tests.battery.plans import SIDES, Door, Plan
from tests.battery.registry import case
from tests.battery.strikes import (
    HANDSHAKE,
    LATE,
    STREAM,
    WAYS,
    Fault,
    Way,
    begin_anew,
    broken_stage,
    clear,
    encrypted,
    handshakes,
    numbers,
    plan,
    recover,
    somewhere,
    strike,
)

KIB, MIB = 1 << 10, 1 << 20
HEARTBEAT_S = 1.0
PRIMES = (7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093)
ABORT_S = 4 * HEARTBEAT_S + 4
"""The relay gives a silent pair up after four heartbeats; the rest is for a busy machine."""


@case("wires: sliced to single bytes")
def single_bytes(battery: Battery) -> str:
    return _sliced(battery, (1,), battery.size(quick=3 * KIB, full=40 * KIB))


@case("wires: sliced to prime sizes", quick=False)
def prime_sizes(battery: Battery) -> str:
    return _sliced(battery, PRIMES, battery.size(quick=200 * KIB, full=8 * MIB))


def _sliced(battery: Battery, pieces: tuple[int, ...], size: int) -> str:
    """Handshakes and streams in slices, on both paths and both ways."""
    with broken_stage(battery, HEARTBEAT_S) as stage:
        paths = stage.near, stage.far
        seen = [len(path.seen) for path in paths]
        for path in paths:
            path.up.pieces = path.down.pieces = pieces
        begin_anew(stage)
        recover(stage)
        jobs = [(door, plan(size)) for door in stage.doors for _ in range(battery.size(2, 8))]
        tally = stage.play(jobs, at_once=4)
        count = sum(len(path.seen) - before for path, before in zip(paths, seen, strict=True))
        clear(stage)
    return f"{count} connections in slices, {tally.streams} streams of {size // KIB} KiB whole"


@case("wires: gathered into one piece, the hand-over too")
def gathered(battery: Battery) -> str:
    """READY comes with the ClientHello behind it, a handshake's end with the first stream."""
    rounds = battery.size(quick=2, full=20)
    with broken_stage(battery, HEARTBEAT_S) as stage:
        for path in (stage.near, stage.far):
            path.up.gather_s = path.down.gather_s = 0.03
        pairs = stage.relay.metric("pairs_joined")
        streams = 0
        for _ in range(rounds):
            begin_anew(stage)
            recover(stage)
            jobs = [(door, plan(size)) for door in stage.doors for size in (17, 5 * KIB, 300 * KIB)]
            streams += stage.play(jobs, at_once=6).streams
        pairs = stage.relay.metric("pairs_joined") - pairs
        assert pairs >= rounds
        clear(stage)
    return f"{pairs:.0f} hand-overs and {streams} streams, all whole"


@case("wires: cut at every 100 bytes of the handshakes", quick=False, deadline_s=180)
def cuts(battery: Battery) -> str:
    """By FIN and by RST, in what clients send and in what the relay sends: not one is left out."""
    step = battery.size(quick=700, full=100)

    def faults(lengths: dict[Way, int]) -> list[Fault]:
        return [
            Fault(HANDSHAKE, way, offset, end)
            for way in WAYS
            for offset in range(0, lengths[way], step)
            for end in End
        ]

    return _both_paths(battery, faults)


@case("wires: cut within a stream", deadline_s=180, quick=False)
def cuts_in_streams(battery: Battery) -> str:
    """At random, and within the last bytes, where FIN and DONE are."""

    def faults(_: dict[Way, int]) -> list[Fault]:
        return [
            Fault(phase, way, somewhere(battery.random, phase), end)
            for _ in range(battery.size(quick=4, full=40))
            for end in End
            for phase in (STREAM, LATE)
            for way in WAYS
        ]

    return _both_paths(battery, faults)


@case("wires: bits that are wrong", deadline_s=180)
def flips(battery: Battery) -> str:
    """One in each connection: in the handshakes, in what streams carry, and in their ends."""
    step = battery.size(quick=400, full=53)

    def faults(lengths: dict[Way, int]) -> list[Fault]:
        early = [
            Fault(HANDSHAKE, way, offset) for way in WAYS for offset in range(0, lengths[way], step)
        ]
        later = [
            Fault(phase, way, somewhere(battery.random, phase))
            for _ in range(battery.size(quick=4, full=30))
            for phase in (STREAM, LATE)
            for way in WAYS
        ]
        return early + later

    return _both_paths(battery, faults)


def _both_paths(battery: Battery, faults: Callable[[dict[Way, int]], list[Fault]]) -> str:
    """Strike both paths with what ``faults`` makes of the lengths of their handshakes."""
    told = []
    with broken_stage(battery, HEARTBEAT_S) as stage:
        for name, path in (("near", stage.near), ("far", stage.far)):
            lengths = handshakes(stage, path)
            strikes = strike(stage, path, faults(lengths))
            strikes.check(f"{name} path, handshakes of {lengths}")
            told.append(f"{name} ({lengths['up']} bytes up, {lengths['down']} down): {strikes}")
        seconds = clear(stage)
    return f"{'; '.join(told)}; then a stream each way in within {seconds:.1f} s"


@case("wires: far, uneven, narrow and sliced", deadline_s=120, quick=False)
def uneven(battery: Battery) -> str:
    """Delay, jitter, bandwidth and slices together, on both paths, for handshakes and streams."""
    size = battery.size(quick=200 * KIB, full=8 * MIB)
    with broken_stage(battery, HEARTBEAT_S) as stage:
        for path in (stage.near, stage.far):
            for way in (path.up, path.down):
                way.delay_s, way.jitter_s, way.rate = 0.01, 0.02, 4 * MIB
                way.pieces = (1021, 2039, 4093, 16381, 61)
        begin_anew(stage)
        seconds = recover(stage)
        jobs = [(door, plan(size)) for door in stage.doors for _ in range(2)]
        tally = stage.play(jobs, at_once=8, deadline_s=300)
        rate = tally.right / MIB / tally.seconds
        clear(stage)
    whole = f"{tally.streams} of {size // KIB} KiB whole, {rate:.1f} MiB/s"
    return f"first streams after {seconds:.1f} s, {whole}"


BLACKHOLES = tuple(
    (name, ways) for name in ("near", "far") for ways in (("up",), ("down",), ("up", "down"))
)
"""Which path, and which ways of it. The quick size takes every other one."""


@case("wires: a blackhole of half a heartbeat", quick=False, deadline_s=120)
def short_blackhole(battery: Battery) -> str:
    """Streams go on as if nothing had been.

    What is idle is silent for one and a half heartbeats then, and given up after two at the least.
    """
    count, heartbeat_s = 0, 2 * HEARTBEAT_S
    chosen = list(BLACKHOLES)[:: battery.size(quick=2, full=1)]
    with broken_stage(battery, heartbeat_s) as stage:
        for name, ways in chosen:
            path = getattr(stage, name)

            async def work(
                peers: Peers, path: ChaosProxy = path, ways: tuple[str, ...] = ways
            ) -> int:
                jobs = [
                    (door, _long_plan(battery, busy=busy))
                    for door in stage.doors
                    for busy in (True, False)
                ]
                playing = await _begin(peers, jobs)
                _hold(path, ways, held=True)
                await asyncio.sleep(heartbeat_s / 2)
                _hold(path, ways, held=False)
                await playing
                return peers.tally.streams

            count += stage.run(work)
    return f"{len(chosen)} of {heartbeat_s / 2:g} s, {count} streams through them whole"


@case("wires: a blackhole that stays", deadline_s=180, quick=False)
def long_blackhole(battery: Battery) -> str:
    """Streams are aborted at both ends while nothing passes; new ones work when it does again."""
    worst, again, count = 0.0, 0.0, 0
    with broken_stage(battery, HEARTBEAT_S) as stage:
        for name, ways in list(BLACKHOLES)[:: battery.size(quick=2, full=1)]:
            path = getattr(stage, name)

            async def work(
                peers: Peers, path: ChaosProxy = path, ways: tuple[str, ...] = ways
            ) -> tuple[float, int]:
                doors = encrypted(stage) if path is stage.far else [stage.route]
                jobs = [
                    (door, _endless_plan(busy=busy)) for door in doors for busy in (True, False)
                ]
                playing = await _begin(peers, jobs, spoiled=True)
                _hold(path, ways, held=True)
                began = time.monotonic()
                try:
                    await playing
                    await peers.ended()
                finally:
                    _hold(path, ways, held=False)
                assert peers.tally.resets["source"] == len(jobs)
                return time.monotonic() - began, len(jobs)

            seconds, streams = stage.run(work)
            worst, count = max(worst, seconds), count + streams
            assert seconds < ABORT_S, f"aborted after {seconds:.1f} s: {name} path, {ways}"
            again = max(again, recover(stage))
    return (
        f"{count} streams aborted at both ends after {worst:.1f} s at the most (heartbeat"
        f" {HEARTBEAT_S:g} s); new ones {again:.1f} s after it was over"
    )


def _hold(path: ChaosProxy, ways: tuple[str, ...], *, held: bool) -> None:
    for way in ways:
        getattr(path, way).held = held


def _long_plan(battery: Battery, *, busy: bool) -> Plan:
    """Return a stream that spans a blackhole: saying much, or something now and then."""
    if busy:
        return Plan(next(numbers), dict.fromkeys(SIDES, battery.size(2 * MIB, 24 * MIB)))
    pauses = {side: {20: 0.4, 40: 0.4, 60: 0.4} for side in SIDES}
    return Plan(next(numbers), dict.fromkeys(SIDES, 80), pauses=pauses)


def _endless_plan(*, busy: bool) -> Plan:
    if busy:
        return Plan(next(numbers), dict.fromkeys(SIDES, 1 << 40))
    pauses = {side: {20: 60.0} for side in SIDES}
    return Plan(next(numbers), dict.fromkeys(SIDES, 80), pauses=pauses)


async def _begin(
    peers: Peers, jobs: list[tuple[Door, Plan]], *, spoiled: bool = False
) -> asyncio.Task[None]:
    """Begin all streams at once; return when each has reached its destination."""
    playing = asyncio.create_task(play_all(peers, jobs, at_once=len(jobs), spoiled=spoiled))
    async with asyncio.timeout(30):
        while peers.arrived < len(jobs) and not playing.done():  # noqa: ASYNC110 - by the network
            await asyncio.sleep(0.01)
    if playing.done():
        await playing
    return playing
