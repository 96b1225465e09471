"""One stream of bulk data each way, and what it costs the programs."""

from __future__ import annotations

from benchmarks.metrics import Figures
from benchmarks.systems.base import System
from benchmarks.workloads.base import GB, run_client


def bulk(system: System, seconds: float) -> Figures:
    """Return Gbit/s each way and CPU seconds per GB over both."""
    figures: dict[str, float] = {}
    moved = cpu = relay_cpu = 0.0
    for kind in ("upload", "download"):
        counted, used = run_client(system, kind, seconds)
        figures[kind] = counted["bytes"] * 8 / counted["seconds"] / 1e9
        moved += counted["bytes"] / GB
        cpu += sum(used.values())
        relay_cpu += used[system.relay] if system.relay else 0.0
    if system.processes:
        figures["cpu_per_gb"] = cpu / moved
    if system.relay:
        figures["relay_cpu_per_gb"] = relay_cpu / moved
    return figures
