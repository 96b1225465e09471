"""New connections: each sends a small request, reads a small reply, and is closed."""

from __future__ import annotations

from benchmarks.metrics import Figures
from benchmarks.systems.base import System
from benchmarks.workloads.base import run_client


def connections(system: System, seconds: float) -> Figures:
    """Return connections per second, and the programs' CPU ms for each (warm-up included)."""
    counted, used = run_client(system, "connect", seconds)
    figures = {"connections": counted["connections"] / counted["seconds"]}
    if used:
        figures["cpu_per_connection"] = sum(used.values()) * 1000 / counted["total"]
    return figures
