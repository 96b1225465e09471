"""The run: start the systems, measure them in interleaved rounds, end them."""

from __future__ import annotations

import resource
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.budget import Budget, Cost
from benchmarks.grounds import Grounds
from benchmarks.probe import wait_serving
from benchmarks.processes import UnavailableError
from benchmarks.results import Results
from benchmarks.systems import SYSTEMS
from benchmarks.systems.base import Place, System
from benchmarks.systems.suite import Suite
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.base import CLIENT, RunError
from benchmarks.workloads.memory import PartlyError

START: Final = Cost(0, 0.5)
"""What it takes to start a system and to end it, several at a time."""
MOST_FAILURES: Final = 2
"""Failures of a workload on a system after which it is left out: each takes its time."""
STARTERS: Final = 3
"""Systems that start at the same time; they mostly wait."""

Make = Callable[[Place], System]


@dataclass(frozen=True)
class Plan:
    """What to run.

    Args:
        systems: names out of ``SYSTEMS``.
        workloads: names out of ``WORKLOADS``.
        trees: other checkouts of this suite, each measured as a system of its own.
        rounds: times that every workload runs on every system.
        seconds: how long one run takes, at most.
        total_s: how long everything may take; runs become shorter to fit in, or ``None``.
        crowd: numbers of idle streams that memory is measured with, ascending.
        crowded: the systems whose memory is measured.
    """

    systems: Sequence[str]
    workloads: Sequence[str]
    trees: Sequence[tuple[str, Path]]
    rounds: int
    seconds: float
    total_s: float | None
    crowd: tuple[int, ...]
    crowded: Sequence[str]

    def makers(self) -> dict[str, Make]:
        """Return what makes each system, other trees' last."""
        made: dict[str, Make] = {name: SYSTEMS[name] for name in self.systems}
        return made | {label: partial(Suite, tree=tree, label=label) for label, tree in self.trees}

    def variants(self) -> dict[str, list[str]]:
        """Return the workloads by the variant that they need, in the order of ``WORKLOADS``."""
        found: dict[str, list[str]] = {}
        for name, workload in WORKLOADS.items():
            if name in self.workloads:
                found.setdefault(workload.variant, []).append(name)
        return found


def run(plan: Plan, console: Console) -> Results:
    """Measure what the plan says. Ctrl-C ends it early; what was measured is returned."""
    return Run(plan, console).run()


class Run:
    """One run from its begin to its end."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan = plan
        self._results = Results()
        self._makers = plan.makers()
        steps, cost = 0, Cost(0, 0)
        for variant, names in plan.variants().items():
            starts, a_round = self._cost(variant)
            times = 1 if self._is_fresh(variant) else plan.rounds
            steps += times * len(names) * len(self._eligible(variant))
            cost += starts + a_round * times
        self._budget = Budget(plan.seconds, cost, time.monotonic(), plan.total_s)
        self._failures = Counter[tuple[str, str]]()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._progress = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
        self._task = self._progress.add_task("starting", total=steps)

    def run(self) -> Results:
        """Measure variant after variant."""
        _raise_descriptor_limit()
        try:
            with ExitStack() as stack, self._progress:
                stack.callback(CLIENT.close)
                made = tempfile.TemporaryDirectory(prefix="benchmarks-", ignore_cleanup_errors=True)
                directory = Path(stack.enter_context(made))
                grounds = Grounds(directory, stack, self._plan.crowd)
                later = [each for each in self._plan.variants() if not self._is_fresh(each)]
                for variant, names in self._plan.variants().items():
                    try:
                        place = grounds.place(variant)
                    except UnavailableError as error:
                        self._results.skip(f"{', '.join(names)}: {error}")
                        continue
                    if self._is_fresh(variant):
                        self._measure_one_by_one(place, names)
                        continue
                    later.remove(variant)
                    if self._budget.fits(sum_of(self._cost(variant)), time.monotonic()):
                        self._measure_in_rounds(place, names, later)
                    else:
                        self._results.skip(f"{', '.join(names)}: out of time")
        except KeyboardInterrupt:
            self._results.skip("the rest: interrupted")
        self._results.put_in_order([*self._makers])
        return self._results

    def _measure_in_rounds(self, place: Place, names: Sequence[str], later: Sequence[str]) -> None:
        """Measure round after round, as long as one of each later variant will fit too."""
        reserve = sum_of(each for variant in later for each in self._cost(variant))
        _, a_round = self._cost(place.variant)
        with ExitStack() as stack:
            with ThreadPoolExecutor(STARTERS) as starters:
                makers = self._eligible(place.variant)
                self._progress.update(self._task, description=f"starting: {place.variant}")
                started = starters.map(lambda make: self._start(make, place, stack), makers)
                systems = [each for each in started if each is not None]
            for number in range(self._plan.rounds):
                # Each round begins with another system, so that none always follows the same one.
                if number and not self._budget.fits(a_round + reserve, time.monotonic()):
                    what = f"{', '.join(names)}: {number} of {self._plan.rounds} rounds"
                    self._results.skip(f"{what}: out of time")
                    self._budget.left -= a_round * (self._plan.rounds - number)
                    break
                turn = number * 3 % max(len(systems), 1)
                for name in names:
                    for system in [*systems[turn:], *systems[:turn]]:
                        self._measure(name, system, number)

    def _measure_one_by_one(self, place: Place, names: Sequence[str]) -> None:
        cost = START + sum_of(WORKLOADS[name].cost for name in names)
        for make in self._eligible(place.variant):
            if not self._budget.fits(cost, time.monotonic()):
                self._results.skip(f"{', '.join(names)}, some or all systems: out of time")
                return
            with ExitStack() as stack:
                if system := self._start(make, place, stack):
                    for name in names:
                        self._measure(name, system, 0)

    def _eligible(self, variant: str) -> list[Make]:
        """Return what makes the systems that are measured in a variant."""
        names = self._plan.crowded if variant == "crowd" else self._makers
        trees = {label for label, _ in self._plan.trees}
        return [
            make
            for name, make in self._makers.items()
            if variant in (Suite if name in trees else SYSTEMS[name]).variants
            and (name in names or name in trees)
        ]

    def _start(self, make: Make, place: Place, stack: ExitStack) -> System | None:
        """Start a system; it ends with the stack."""
        system = make(place)
        stack.callback(system.close)
        self._budget.take(START, time.monotonic())
        try:
            system.start()
            wait_serving(system)
        except (UnavailableError, OSError, subprocess.SubprocessError) as error:
            self._results.skip(f"{system.name}: {error}")
            return None
        self._results.titles[system.name] = system.title
        self._results.security[system.name] = system.security
        return system

    def _measure(self, name: str, system: System, number: int) -> None:
        workload = WORKLOADS[name]
        what = f"{workload.title}, round {number + 1}: {system.title}"
        self._progress.update(self._task, description=what)
        self._progress.advance(self._task)
        seconds = self._budget.take(workload.cost, time.monotonic())
        if self._failures[name, system.name] >= MOST_FAILURES:
            return
        if seconds is None:
            self._results.skip(f"{name}, the end of round {number + 1}: out of time")
            return
        try:
            figures = workload.measure(system, seconds)
        except RunError as error:
            self._failures[name, system.name] += 1
            self._results.skip(f"{name} through {system.name}: {error}")
            if isinstance(error, PartlyError):
                self._results.add(system.name, number, error.figures)
        else:
            self._results.add(system.name, number, figures)

    def _is_fresh(self, variant: str) -> bool:
        """Whether a variant's systems are measured one after the other, once."""
        return all(WORKLOADS[name].fresh for name in self._plan.variants()[variant])

    def _cost(self, variant: str) -> tuple[Cost, Cost]:
        """Return what it costs to start a variant's systems, and a round on them."""
        names = self._plan.variants()[variant]
        systems = len(self._eligible(variant))
        return START * systems, sum_of(WORKLOADS[name].cost for name in names) * systems


def sum_of(costs: Iterable[Cost]) -> Cost:
    """Return the sum of costs."""
    return sum(costs, Cost(0, 0))


def _raise_descriptor_limit() -> None:
    """Let the programs have as many descriptors as they may: they inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
