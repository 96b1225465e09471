"""Faults that strike connections of a path: each at its own offset, until it has happened."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal

from tests.battery.bench import Battery
from tests.battery.chaos import ChaosProxy, End, Weather
from tests.battery.peers import Peers, play_all
from tests.battery.plans import SIDES, Door, Fate, Plan
from tests.battery.stage import Stage, staged

KIB = 1 << 10
Way = Literal["up", "down"]
WAYS: Final[tuple[Way, Way]] = ("up", "down")
HANDSHAKE, STREAM, LATE = "in the handshake", "within a stream", "at its end"
"""The phases of a connection."""
LONGEST = 2400
"""Bytes each way, at the most, before the first of a stream: two TLS sessions, login, pairing, and
a heartbeat or two."""
SIZE = 20 * KIB
"""Of each stream, each way."""
POOL = 4
ROUNDS = 2
"""Of streams: what is a little behind the end of the first is in the second."""
TRIES, MOST_TRIES = 3, 15
"""How often a fault is tried that does not happen, and how often one that must happen."""
LEAST = 0.75
"""Of the faults in streams and at their ends, each way, those that must have happened: which
connection gets another stream, and so that far, is not in our hands. Of a handshake it is all."""
AT_A_TIME = 8
"""Connections that are struck before all recover: clients that fail on and on wait ever longer."""

numbers = itertools.count()
"""Of streams."""


def plan(size: int) -> Plan:
    return Plan(next(numbers), dict.fromkeys(SIDES, size))


@contextmanager
def broken_stage(battery: Battery, heartbeat_s: float) -> Iterator[Stage]:
    clients = ("--pool", str(POOL), "--pool-linger", "1")
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


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one connection.

    Attributes:
        phase: where ``offset`` is.
        by: how it is cut there; None inverts a bit.
    """

    phase: str
    way: Way
    offset: int
    by: End | None = None

    def weathers(self) -> tuple[Weather, Weather]:
        """Return the weather up and down."""
        if self.by is None:
            mine = Weather(flips=frozenset({self.offset}))
        else:
            mine = Weather(cut_at=self.offset, cut_by=self.by)
        return (mine, Weather()) if self.way == "up" else (Weather(), mine)

    def __str__(self) -> str:
        return f"{self.by.value if self.by else 'bit'} at {self.offset} {self.way}"


def somewhere(chance: Random, phase: str) -> int:
    """Return an offset in the first stream of a connection, or where that ends, about."""
    if phase == STREAM:
        return chance.randrange(LONGEST, LONGEST + SIZE)
    return LONGEST + SIZE + chance.randrange(-100, 400)


def handshakes(stage: Stage, path: ChaosProxy) -> dict[Way, int]:
    """Return how many bytes pass each way of a path until a connection can carry a stream."""
    begin_anew(stage)
    for program, gauges in (
        (stage.entry_point, ["channels_idle"]),
        (stage.reverse_proxy, ["links_pending", "visitor_channels"]),
        (stage.relay, ["pairs_open"]),
    ):
        for gauge in gauges:
            program.wait_metric(gauge, lambda count: count == POOL, 60)
    live = [each for each in path.seen if not each.over]
    lengths: dict[Way, int] = {way: max(getattr(each, way) for each in live) for way in WAYS}
    assert all(500 < each <= LONGEST for each in lengths.values()), lengths
    return lengths


@dataclass
class Strikes:
    """What a series of faults has done.

    Attributes:
        faults: that were to happen.
        missed: those that did not, however often they were tried.
        whole, aborted: streams meanwhile, as their sources saw them.
    """

    faults: list[Fault]
    missed: list[Fault] = field(default_factory=list)
    whole: int = 0
    aborted: int = 0

    def lacking(self) -> list[Fault]:
        """Return the missed ones of those phases, and ways, where too few have happened."""
        wanted = Counter((each.phase, each.way) for each in self.faults)
        missed = Counter((each.phase, each.way) for each in self.missed)

        def too_many(phase: str, way: Way) -> bool:
            excused = 0 if phase == HANDSHAKE else (1 - LEAST) * wanted[phase, way]
            return missed[phase, way] > excused

        return [each for each in self.missed if too_many(each.phase, each.way)]

    def check(self, where: str) -> None:
        """Fail if a fault of a handshake is missing, or too many of another phase."""
        never = [f"{each.phase}: {each}" for each in self.lacking()]
        assert not never, f"{where}: {self}; never: {', '.join(never)}"
        assert self.aborted or all(each.phase == HANDSHAKE for each in self.faults), (
            f"{where}: {self}"
        )

    def __str__(self) -> str:
        wanted = Counter(each.phase for each in self.faults)
        missed = Counter(each.phase for each in self.missed)
        happened = ", ".join(
            f"{count - missed[phase]} of {count} {phase}" for phase, count in wanted.items()
        )
        return (
            f"faults {happened}, meanwhile {self.whole} streams whole, {self.aborted} aborted,"
            " none ended early"
        )


def strike(stage: Stage, path: ChaosProxy, faults: list[Fault]) -> Strikes:
    """Give each of the next connections of a path its own fault; play streams all the time.

    A fault that does not happen, because its connection is left in peace so long, is tried again.
    """
    strikes = Strikes(faults, list(faults))
    for number in range(MOST_TRIES):
        due = list(strikes.missed) if number < TRIES else strikes.lacking()
        for start in range(0, len(due), AT_A_TIME):
            for each in _strike(stage, path, due[start : start + AT_A_TIME], strikes):
                strikes.missed.remove(each)
    return strikes


def _strike(stage: Stage, path: ChaosProxy, batch: list[Fault], strikes: Strikes) -> list[Fault]:
    """Begin anew with these faults; return those that happened."""
    given: dict[int, Fault] = {}
    waiting = list(batch)

    def choose(number: int) -> tuple[Weather, Weather]:
        if not waiting:
            return path.up, path.down
        given[number] = waiting.pop()
        return given[number].weathers()

    async def work(peers: Peers) -> None:
        until = time.monotonic() + 30
        while waiting:
            assert time.monotonic() < until, f"{len(waiting)} connections were never made"
            for door in encrypted(stage):
                await peers.play(door, plan(SIZE), spoiled=True)
        # Many at once, so that every channel has one: it may be struck by what a stream sends.
        for _ in range(ROUNDS):
            jobs = [(door, plan(SIZE)) for door in encrypted(stage) for _ in range(6)]
            await play_all(peers, jobs, at_once=len(jobs), spoiled=True)
        strikes.whole += peers.tally.streams - peers.tally.resets["source"]
        strikes.aborted += peers.tally.resets["source"]

    path.choose = choose
    path.cut(End.RST)
    stage.run(work)
    recover(stage)
    return [fault for number, fault in given.items() if path.seen[number].struck]
