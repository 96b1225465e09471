"""Descriptors, tasks, pipes and gauges of programs: balanced when a case ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from tests.programs.harness import Program, wait_for

SETTLE_S = 20.0
"""Longer than the pools linger and than dead peers are waited for, with the battery's settings."""

# Gauges that must be the same after a case as before it, as far as a program has them.
GAUGES = (
    "clients",
    "strangers",
    "pairs_open",
    "pipes_lent",
    "links_pending",
    "exposures",
    "tenants_present",
    "visitors",
    "flows",
    "channels_idle",
    "streams_open",
    "sources_waiting",
    "channels",
    "visitor_channels",
    "tasks",
)


class Books:
    """What programs held at the beginning, once each had done what it makes descriptors for once.

    Args:
        programs: must stay the same processes until :meth:`balance`.
    """

    def __init__(self, programs: Iterable[Program]) -> None:
        self._before = {each: steady(each) for each in programs}

    def succeed(self, program: Program, successor: Program) -> None:
        """Expect of ``successor``, started anew, what ``program`` held before it was killed."""
        self._before[successor] = self._before.pop(program)

    def balance(self, deadline_s: float = SETTLE_S) -> None:
        """Wait until everything is back where it began.

        Raises:
            AssertionError: it does not come back; says what is left over.
        """
        for program, before in self._before.items():
            wrong: list[str] = []

            def back(
                program: Program = program,
                before: dict[str, float] = before,
                wrong: list[str] = wrong,
            ) -> bool:
                wrong[:] = _differences(before, held(program))
                return not wrong

            try:
                wait_for(back, "balance", deadline_s, step_s=0.1)
            except AssertionError:
                raise AssertionError(
                    f"{program.name} after {deadline_s:g} s: {', '.join(wrong)};"
                    f" log:\n{program.log}"
                ) from None


def held(program: Program) -> dict[str, float]:
    """Return what a program holds now: its gauges, if it has any, and its descriptors."""
    metrics = program.metrics() if "metrics " in program.ready() else {}
    found = {name: metrics[name] for name in GAUGES if name in metrics}
    return found | {"descriptors": descriptors(program)}


def descriptors(program: Program) -> int:
    """Return how many descriptors a program has, pipes aside: it keeps some that are empty.

    The gauge of those that are lent tells if one is lost.
    """
    count = 0
    for each in os.listdir(f"/proc/{program.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            count += not os.readlink(f"/proc/{program.pid}/fd/{each}").startswith("pipe:")
    return count


def steady(program: Program, deadline_s: float = SETTLE_S) -> dict[str, float]:
    """Return what a program holds once it has been the same three times in a row."""
    seen: list[dict[str, float]] = []

    def same() -> bool:
        seen.append(held(program))
        return len(seen) >= 3 and seen[-1] == seen[-2] == seen[-3]

    wait_for(same, f"{program.name} rests; last {seen[-1:]}", deadline_s, step_s=0.15)
    return seen[-1]


def _differences(before: dict[str, float], now: dict[str, float]) -> list[str]:
    return [
        f"{name} {before[name]:g} -> {value:g}"
        for name, value in now.items()
        if (value > before[name] if name == "descriptors" else value != before[name])
    ]
