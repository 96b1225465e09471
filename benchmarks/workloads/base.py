"""What workloads share: running a client, and the CPU time that a system took meanwhile."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

from benchmarks.metrics import Figures
from benchmarks.processes import Process
from benchmarks.systems.base import ROOT, System, python_module

Workload = Callable[[System, float], Figures]
"""Measures a running system once, for about so many seconds."""

DEADLINE_S = 60.0
GB = 1e9


class RunError(Exception):
    """A run gave no figures; the message says why."""


def run_client(system: System, kind: str, seconds: float) -> tuple[Figures, dict[Process, float]]:
    """Return the client's figures, and the CPU seconds that each program has used meanwhile."""
    host, port = system.address
    before = {each: each.cpu_s() for each in system.processes}
    try:
        done = subprocess.run(
            [*python_module("benchmarks.load.client"), kind, host, str(port), str(seconds)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds + DEADLINE_S,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise RunError(f"{kind} through {system.name}: {error.stderr.strip()[-300:]}") from None
    except subprocess.TimeoutExpired:
        raise RunError(f"{kind} through {system.name}: no end") from None
    used = {each: each.cpu_s() - before[each] for each in system.processes}
    figures: Figures = json.loads(done.stdout)
    return figures, used
