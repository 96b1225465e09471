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
MEMORY_SLACK_KIB = 4 * 1024
"""What the line may gain from its middle to its end: the allocator's fragments come and go."""
DESCRIPTOR_SLACK = 24
"""The same for descriptors: each stream at its height has three at a program, and some pipes."""


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

    @property
    def second_half_s(self) -> float:
        return self.times[-1] - self.times[len(self.times) // 2]

    def slope(self, values: list[float]) -> float:
        """Return the slope of the second half, a second, by least squares."""
        half = len(values) // 2
        times, values = self.times[half:], values[half:]
        middle, mean = sum(times) / len(times), sum(values) / len(values)
        spread = sum((each - middle) ** 2 for each in times)
        pairs = zip(times, values, strict=True)
        return sum((at - middle) * (value - mean) for at, value in pairs) / spread


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
    with staged(battery, chaos=False, clients=CLIENTS) as stage:
        courses = {each: Course() for each in stage.programs}
        peers = stage.run(partial(_play_and_watch, battery, stage, seconds, courses))
        for program in stage.programs:
            broken = [line for line in program.lines if "internal error" in line]
            assert not broken, broken[0]
    tally = peers.tally
    figures, growing = [], []
    for program, course in courses.items():
        memory, fds = course.slope(course.memory_kib), course.slope(course.descriptors)
        figures.append(f"{program.name} {memory * 60:+.0f} KiB and {fds * 60:+.2f} descriptors")
        if memory * course.second_half_s > MEMORY_SLACK_KIB:
            growing.append(f"{program.name}: memory (KiB) {course.memory_kib}")
        if fds * course.second_half_s > DESCRIPTOR_SLACK:
            growing.append(f"{program.name}: descriptors {course.descriptors}")
    figure = (
        f"{tally.streams:,} streams in {seconds / 60:.3g} min, {tally.right / MIB:,.0f} MiB,"
        f" {tally.resets['source']:,} of them aborted, no wrong byte, none crossed, no abort like"
        f" an end; a minute of the second half: {', '.join(figures)}; seed {battery.seed}"
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
