"""The path between a client and the relay, broken in every way while bytes are on it.

Whatever happens there, a stream is whole or is visibly aborted, at both of its ends; new streams
work afterwards; and nothing is left over. Streams go through a route and through a public port, so
the near path (entry-point to relay) carries one kind and the far path (reverse-proxy to relay) all.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.battery.bench import Battery
from tests.battery.chaos import ChaosProxy, End, Weather
from tests.battery.peers import Peers, play_all
from tests.battery.plans import SIDES, Door, Fate, Plan
from tests.battery.registry import case
from tests.battery.stage import Stage, staged

KIB, MIB = 1 << 10, 1 << 20
HEARTBEAT_S = 1.0
PRIMES = (7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093)
HANDSHAKE = 2200
"""Bytes each way, at the most, before the first of a stream: two TLS sessions, login, pairing."""
STREAM = 20 * KIB
TRIES = 3
AT_A_TIME = 8
"""Connections that are struck before all recover: clients that fail on and on wait ever longer."""
ABORT_S = 4 * HEARTBEAT_S + 4
"""The relay gives a silent pair up after four heartbeats; the rest is for a busy machine."""

Fault = tuple[Weather, Weather]
"""What happens to one connection, up and down."""

_numbers = itertools.count()


def plan(size: int) -> Plan:
    return Plan(next(_numbers), dict.fromkeys(SIDES, size))


@contextmanager
def broken_stage(battery: Battery, heartbeat_s: float = HEARTBEAT_S) -> Iterator[Stage]:
    clients = ("--pool", "4", "--pool-linger", "1")
    with staged(battery, chaos=True, heartbeat_s=heartbeat_s, clients=clients) as stage:
        yield stage


def encrypted(stage: Stage) -> list[Door]:
    """Return the ways in whose bytes are protected on the paths; raw ones protect themselves."""
    return [stage.route, stage.port, stage.name]


def begin_anew(stage: Stage) -> int:
    """Cut all connections, so that new ones begin; return how many there were."""
    return stage.near.cut(End.RST) + stage.far.cut(End.RST)


def recover(stage: Stage, deadline_s: float = 60.0) -> float:
    """Wait until a stream through each door is whole; return the seconds that took."""
    began = time.monotonic()

    async def work(peers: Peers) -> None:
        for door in encrypted(stage):
            while True:
                fates = await peers.play(door, plan(10 * KIB), spoiled=True)
                if fates == (Fate.WHOLE, Fate.WHOLE):
                    break
                assert time.monotonic() < began + deadline_s, f"no stream at {door.name}"

    stage.run(work)
    return time.monotonic() - began


def clear(stage: Stage) -> float:
    """Let nothing happen on the paths any more, not even to connections that are there.

    Returns:
        The seconds until there were streams again.
    """
    for path in (stage.near, stage.far):
        path.up, path.down = Weather(), Weather()
        path.choose = lambda _, path=path: (path.up, path.down)  # type: ignore[misc]
        path.cut(End.RST)
    return recover(stage)


@case("wires: sliced to single bytes")
def single_bytes(battery: Battery) -> str:
    return _sliced(battery, (1,), battery.size(quick=3 * KIB, full=40 * KIB))


@case("wires: sliced to prime sizes", quick=False)
def prime_sizes(battery: Battery) -> str:
    return _sliced(battery, PRIMES, battery.size(quick=200 * KIB, full=8 * MIB))


def _sliced(battery: Battery, pieces: tuple[int, ...], size: int) -> str:
    """Handshakes and streams in slices, on both paths and both ways."""
    with broken_stage(battery) as stage:
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
    with broken_stage(battery) as stage:
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


@dataclass
class Strikes:
    """What a series of faults has done.

    Attributes:
        faults: that were to happen.
        struck: connections that were cut, or had a bit inverted.
        whole, aborted: streams meanwhile, as their sources saw them.
    """

    faults: int
    struck: int = 0
    whole: int = 0
    aborted: int = 0

    def __str__(self) -> str:
        return (
            f"{self.struck} of {self.faults} faults happened, meanwhile {self.whole} streams whole,"
            f" {self.aborted} aborted, none ended early"
        )


def strike(stage: Stage, path: ChaosProxy, faults: list[Fault]) -> Strikes:
    """Give each of the next connections of a path its own fault; play streams all the time.

    A fault that does not happen, because its connection is left in peace so long, is tried again.
    """
    strikes = Strikes(len(faults))
    left = faults
    for _ in range(TRIES):
        batches = [left[start : start + AT_A_TIME] for start in range(0, len(left), AT_A_TIME)]
        left = [each for batch in batches for each in _strike(stage, path, batch, strikes)]
    strikes.struck = len(faults) - len(left)
    return strikes


def _strike(stage: Stage, path: ChaosProxy, batch: list[Fault], strikes: Strikes) -> list[Fault]:
    """Begin anew with these faults; return those that did not happen."""
    given: dict[int, Fault] = {}
    waiting = list(batch)

    def choose(number: int) -> Fault:
        if not waiting:
            return path.up, path.down
        given[number] = waiting.pop()
        return given[number]

    async def work(peers: Peers) -> None:
        until = time.monotonic() + 30
        while waiting:
            assert time.monotonic() < until, f"{len(waiting)} connections were never made"
            for door in encrypted(stage):
                await peers.play(door, plan(STREAM), spoiled=True)
        # Many at once, so that every channel has one: it may be struck by what a stream sends.
        jobs = [(door, plan(STREAM)) for door in encrypted(stage) for _ in range(6)]
        await play_all(peers, jobs, at_once=len(jobs), spoiled=True)
        strikes.whole += peers.tally.streams - peers.tally.resets["source"]
        strikes.aborted += peers.tally.resets["source"]

    path.choose = choose
    path.cut(End.RST)
    stage.run(work)
    recover(stage)
    return [fault for number, fault in given.items() if not path.seen[number].struck]


def _both_paths(
    battery: Battery, faults: list[Fault], least: float
) -> tuple[Strikes, Strikes, float]:
    """Strike both paths; at least the share ``least`` of the faults must have happened."""
    with broken_stage(battery) as stage:
        near, far = (strike(stage, path, faults) for path in (stage.near, stage.far))
        for each in (near, far):
            assert each.struck >= least * len(faults), f"{each.struck} of {len(faults)} happened"
        seconds = clear(stage)
    return near, far, seconds


@case("wires: cut at every 100 bytes of the handshakes", quick=False, deadline_s=120)
def cuts(battery: Battery) -> str:
    """By FIN and by RST, in what clients send and in what the relay sends."""
    step = battery.size(quick=700, full=100)
    faults = []
    for offset in range(0, HANDSHAKE, step):
        for end in End:
            faults.append((Weather(cut_at=offset, cut_by=end), Weather()))
            faults.append((Weather(), Weather(cut_at=offset, cut_by=end)))
    near, far, seconds = _both_paths(battery, faults, least=0.6)
    return f"near: {near}; far: {far}; then a stream each way in within {seconds:.1f} s"


@case("wires: cut within a stream", deadline_s=120, quick=False)
def cuts_in_streams(battery: Battery) -> str:
    """At random, and within the last bytes, where FIN and DONE are."""
    faults = []
    for _ in range(battery.size(quick=4, full=40)):
        for end in End:
            for offset in (battery.random.randrange(HANDSHAKE, HANDSHAKE + STREAM), _late(battery)):
                faults.append((Weather(cut_at=offset, cut_by=end), Weather()))
                faults.append((Weather(), Weather(cut_at=offset, cut_by=end)))
    near, far, seconds = _both_paths(battery, faults, least=0.6)
    assert near.aborted + far.aborted > 0
    return f"near: {near}; far: {far}; then a stream each way in within {seconds:.1f} s"


@case("wires: bits that are wrong", deadline_s=180)
def flips(battery: Battery) -> str:
    """One in each connection: in the handshakes, in what streams carry, and in their ends."""
    step = battery.size(quick=400, full=53)
    offsets = list(range(0, HANDSHAKE, step))
    for _ in range(battery.size(quick=4, full=30)):
        offsets.append(battery.random.randrange(HANDSHAKE, HANDSHAKE + STREAM))
        offsets.append(_late(battery))
    faults = []
    for offset in offsets:
        faults.append((Weather(flips=frozenset({offset})), Weather()))
        faults.append((Weather(), Weather(flips=frozenset({offset}))))
    near, far, seconds = _both_paths(battery, faults, least=0.6)
    assert near.aborted + far.aborted > 0
    return f"near: {near}; far: {far}; then a stream each way in within {seconds:.1f} s"


def _late(battery: Battery) -> int:
    """Return an offset where the first stream of a connection ends, about."""
    return HANDSHAKE + STREAM + battery.random.randrange(-100, 400)


@case("wires: far, uneven, narrow and sliced", deadline_s=120, quick=False)
def uneven(battery: Battery) -> str:
    """Delay, jitter, bandwidth and slices together, on both paths, for handshakes and streams."""
    size = battery.size(quick=200 * KIB, full=8 * MIB)
    with broken_stage(battery) as stage:
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
    with broken_stage(battery) as stage:
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
        return Plan(next(_numbers), dict.fromkeys(SIDES, battery.size(2 * MIB, 24 * MIB)))
    pauses = {side: {20: 0.4, 40: 0.4, 60: 0.4} for side in SIDES}
    return Plan(next(_numbers), dict.fromkeys(SIDES, 80), pauses=pauses)


def _endless_plan(*, busy: bool) -> Plan:
    if busy:
        return Plan(next(_numbers), dict.fromkeys(SIDES, 1 << 40))
    pauses = {side: {20: 60.0} for side in SIDES}
    return Plan(next(_numbers), dict.fromkeys(SIDES, 80), pauses=pauses)


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
