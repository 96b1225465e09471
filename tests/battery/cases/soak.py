"""Everything at once and at random for a long time: nothing wrong, and nothing that grows."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial

from tests.battery.bench import Battery
from tests.battery.peers import Peers
from tests.battery.plans import FIRST, OTHER, SIDES, Plan, Side
from tests.battery.registry import case
from tests.battery.stage import Stage, staged
from tests.programs.harness import Program

MIB = 1 << 20
QUICK_S = 10.0
CLIENTS = ("--pool", "8", "--pool-linger", "5")
AT_ONCE = 16
LARGEST = 4 * MIB
MEMORY_KIB_A_MINUTE = 50
"""What the least that a program needs may grow by in a minute: some bytes a stream."""
SETTLING_KIB = 1024
"""What it may grow by at once beyond that, at its greatest load: the longer the soak, the less it
weighs. The ten seconds of the quick size are all settling."""
ERRORS = 5
"""Standard errors by which the slope of the descriptors may be more than none: each stream has some
while it lasts, and samples close to each other are alike. That none is left over in the end, the
books say."""


@dataclass
class Course:
    """What one program held over time."""

    times: list[float] = field(default_factory=list)
    memory_kib: list[float] = field(default_factory=list)
    descriptors: list[float] = field(default_factory=list)

    def note(self, program: Program) -> None:
        self.times.append(time.monotonic())
        self.memory_kib.append(program.resident_kib())
        self.descriptors.append(program.descriptors())

    def rise(self) -> tuple[float, float]:
        """Return how much more memory the last quarter needed at the least than the third; minutes.

        What streams have in use comes and goes by megabytes: what is lost is never given back.
        """
        half, last = len(self.times) // 2, len(self.times) * 3 // 4
        grown = min(self.memory_kib[last:]) - min(self.memory_kib[half:last])
        return grown, (self.times[last] - self.times[half]) / 60

    def slope(self, values: list[float]) -> tuple[float, float]:
        """Return the slope of the second half, a minute, by least squares; and its error."""
        half = len(values) // 2
        times, values = [each / 60 for each in self.times[half:]], values[half:]
        middle, mean = sum(times) / len(times), sum(values) / len(values)
        spread = sum((each - middle) ** 2 for each in times)
        pairs = list(zip(times, values, strict=True))
        slope = sum((at - middle) * (value - mean) for at, value in pairs) / spread
        rest = sum((value - mean - slope * (at - middle)) ** 2 for at, value in pairs)
        return slope, (rest / (len(times) - 2) / spread) ** 0.5


def plan_of(battery: Battery, number: int) -> Plan:
    """Return a stream that does anything a stream may do."""
    chance = battery.random

    def size(most: int = LARGEST) -> int:
        return int(FIRST * (most / FIRST) ** chance.random())

    def somewhere(size: int) -> dict[int, float]:
        return {
            chance.randrange(size): chance.expovariate(10)
            for _ in range(chance.choice((0, 0, 1, 3)))
        }

    sizes: dict[Side, int] = {"source": size(), "destination": size()}
    kind = chance.choice(("whole", "whole", "whole", "half", "half", "says", "hears"))
    if kind == "half":
        return Plan(number, sizes, waits=chance.choice(SIDES))
    pauses: dict[Side, dict[int, float]] = {side: somewhere(sizes[side]) for side in SIDES}
    stalls: dict[Side, dict[int, float]] = {side: somewhere(sizes[OTHER[side]]) for side in SIDES}
    if kind == "whole":
        return Plan(number, sizes, pauses=pauses, stalls=stalls)
    side = chance.choice(SIDES)
    most = sizes[side if kind == "says" else OTHER[side]]
    return Plan(
        number,
        sizes,
        aborts=side,
        trigger="says" if kind == "says" else "hears",
        after=chance.randrange(FIRST, most + 1),
        pause_s=chance.choice((0.0, chance.expovariate(20))),
        pauses=pauses,
        stalls=stalls,
    )


@case("soak: random sizes, pauses, half-closes and aborts", deadline_s=120)
def soak(battery: Battery) -> str:
    seconds = QUICK_S if battery.quick else battery.soak_minutes * 60
    settling = battery.size(quick=4 * SETTLING_KIB, full=SETTLING_KIB)
    with staged(battery, chaos=False, clients=CLIENTS) as stage:
        courses = {each: Course() for each in stage.programs}
        peers = stage.run(partial(_play_and_watch, battery, stage, seconds, courses))
        for program in stage.programs:
            broken = [line for line in program.lines if "internal error" in line]
            assert not broken, broken[0]
    tally = peers.tally
    figures, growing = [], []
    for program, course in courses.items():
        grown, minutes = course.rise()
        fds, error = course.slope(course.descriptors)
        most = MEMORY_KIB_A_MINUTE + settling / minutes
        figures.append(
            f"{program.name} {grown / minutes:+.0f} KiB (of {most:.0f}) and {fds:+.2f} +-"
            f" {error:.2f} descriptors"
        )
        if grown > most * minutes:
            growing.append(f"{program.name}: memory (KiB) {course.memory_kib}")
        if fds > ERRORS * error:
            growing.append(f"{program.name}: descriptors {course.descriptors}")
    figure = (
        f"{tally.streams:,} streams in {seconds / 60:.3g} min, {tally.right / MIB:,.0f} MiB,"
        f" {tally.resets['source']:,} of them aborted, no wrong byte, none crossed, no abort like"
        f" an end; a minute of its second half: {', '.join(figures)}; seed {battery.seed}"
    )
    assert not growing, "\n".join([figure, *growing])
    return figure


async def _play_and_watch(
    battery: Battery,
    stage: Stage,
    seconds: float,
    courses: dict[Program, Course],
    peers: Peers,
) -> Peers:
    until = time.monotonic() + seconds
    numbers = iter(range(1 << 60))

    async def worker() -> None:
        while time.monotonic() < until:
            number = next(numbers)
            door = stage.doors[battery.random.randrange(len(stage.doors))]
            await peers.play(door, plan_of(battery, number))

    async def watch() -> None:
        step_s = min(2.0, seconds / 40)
        while time.monotonic() < until:
            for program, course in courses.items():
                course.note(program)
            await asyncio.sleep(step_s)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        for _ in range(AT_ONCE):
            tasks.create_task(worker())
    return peers
