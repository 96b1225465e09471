"""New connections: how many a second, and how long each takes."""

from __future__ import annotations

from typing import Final

from benchmarks.metrics import Figures
from benchmarks.systems.base import System
from benchmarks.workloads.base import cpu_figures, run_client

WORKERS: Final = 8
"""Processes that open connections at the same time."""
MANY: Final = 10_000


def connections(system: System, seconds: float) -> Figures:
    """Return connections per second, and CPU seconds for 10,000 of them (warm-up included)."""
    counted, used = run_client(system, "connect", seconds, WORKERS)
    figures = {"connections": counted["connections"] / counted["seconds"]}
    return figures | cpu_figures(system, "cpu_per_10000", used, counted["total"] / MANY)


def first_byte(system: System, seconds: float) -> Figures:
    """Return p50 and p99 of the time from connect to the first byte of the reply, in ms."""
    counted, _ = run_client(system, "first_byte", seconds)
    return {f"first_byte_p{n}": counted[f"p{n}_us"] / 1e3 for n in (50, 99)}


def far_connections(system: System, seconds: float) -> Figures:
    """Return connections per second, and p50 and p99 of the time to the first byte, in ms."""
    counted, _ = run_client(system, "connect_far", FAR_LENGTHS * seconds, FAR_WORKERS)
    figures = {f"far_first_byte_p{n}": counted[f"p{n}_us"] / 1e3 for n in (50, 99)}
    return {**figures, "far_connections": counted["connections"] / counted["seconds"]}


FAR_WORKERS: Final = 16
"""Enough for a p99 of a hundred connections, and for no queue anywhere."""


FAR_LENGTHS: Final = 2
"""Lengths of a run that a run takes on the far path, where one connection takes 0.1 s."""
