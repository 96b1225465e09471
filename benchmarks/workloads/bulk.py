"""Bulk data each way, and what it costs the programs."""

from __future__ import annotations

from typing import Final

from benchmarks.metrics import Figures
from benchmarks.processes import Process
from benchmarks.systems.base import System
from benchmarks.workloads.base import GB, cpu_figures, run_client

MANY: Final = 8


def bulk(system: System, seconds: float) -> Figures:
    """Return Gbit/s of one stream each way, and CPU seconds per GB over both."""
    figures, moved, used = _each_way(system, seconds, 1, "")
    return figures | cpu_figures(system, "cpu_per_gb", used, moved)


def bulk_many(system: System, seconds: float) -> Figures:
    """Return Gbit/s of eight streams together, each way."""
    return _each_way(system, seconds, MANY, f"_{MANY}")[0]


def _each_way(
    system: System, seconds: float, count: int, suffix: str
) -> tuple[dict[str, float], float, dict[Process, float]]:
    figures: dict[str, float] = {}
    moved = 0.0
    used = dict.fromkeys(system.processes, 0.0)
    for kind in ("upload", "download"):
        counted, more = run_client(system, kind, seconds, count)
        figures[kind + suffix] = counted["bytes"] * 8 / counted["seconds"] / GB
        moved += counted["bytes"] / GB
        used = {each: used[each] + more[each] for each in used}
    return figures, moved, used
