"""What workloads share: the client, and the CPU time that a system took meanwhile."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from benchmarks.budget import Cost
from benchmarks.metrics import Figures
from benchmarks.processes import Process, UnavailableError, family
from benchmarks.systems.base import ROOT, System, python_module

PATIENCE_S: Final = 15.0
"""Seconds that a run may take longer than it should before it is given up."""
GB = 1e9


class RunError(Exception):
    """A run gave no figures; the message says why."""


@dataclass(frozen=True)
class Workload:
    """One kind of load.

    Args:
        title: what it is, for the progress.
        measure: measures a running system once; a run in it takes about so many seconds.
        cost: what that takes.
        variant: what the system must have been started for.
        fresh: measured once only, on a system that has just been started, with none beside it.
    """

    title: str
    measure: Callable[[System, float], Figures]
    cost: Cost
    variant: str = "plain"
    fresh: bool = False


class Client:
    """The process that makes the load; see ``benchmarks.load.client``."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ask(self, system: System, kind: str, seconds: float, count: int) -> Figures:
        """Return the figures of one run.

        Raises:
            RunError: there are none.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                python_module("benchmarks.load.client"),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
                start_new_session=True,
            )
        host, port = system.address
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{kind} {host} {port} {seconds} {count}\n")
        ready, _, _ = select.select([self._process.stdout], [], [], 2 * seconds + PATIENCE_S)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            self.close()
            raise RunError("no end")
        figures: dict[str, float] = json.loads(line)
        if "error" in figures:
            raise RunError(str(figures["error"]))
        return figures

    def close(self) -> None:
        """End it; the next question starts another one."""
        if self._process is None:
            return
        for pid in family(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.communicate()
        self._process = None


CLIENT: Final = Client()
"""The only one: runs never overlap."""


def run_client(
    system: System, kind: str, seconds: float, count: int = 1
) -> tuple[Figures, dict[Process, float]]:
    """Return the client's figures, and the CPU seconds that each program has used meanwhile.

    Raises:
        RunError: the run has failed.
    """
    before = cpu_of(system)
    figures = CLIENT.ask(system, kind, seconds, count)
    return figures, {each: used - before[each] for each, used in cpu_of(system).items()}


def cpu_of(system: System) -> dict[Process, float]:
    """Return the CPU seconds of each program so far.

    Raises:
        RunError: one has ended.
    """
    try:
        return {each: each.cpu_s() for each in system.processes}
    except UnavailableError as error:
        raise RunError(str(error)) from None


def cpu_figures(
    system: System, name: str, used: dict[Process, float], amount: float
) -> dict[str, float]:
    """Return what an amount of work cost in all, the relay, and each program (``name:program``)."""
    if not used:
        return {}
    figures = {name: sum(used.values()) / amount}
    figures |= {f"{name}:{each.name}": seconds / amount for each, seconds in used.items()}
    if system.relay:
        figures[f"relay_{name}"] = used[system.relay] / amount
    return figures
