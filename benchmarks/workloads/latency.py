"""Round trips of 64 bytes on one connection, one after the other."""

from __future__ import annotations

from benchmarks.metrics import Figures
from benchmarks.systems.base import System
from benchmarks.workloads.base import run_client


def pingpong(system: System, seconds: float) -> Figures:
    """Return p50 and p99 of the round trip in µs."""
    counted, _ = run_client(system, "pingpong", seconds)
    return {"p50": counted["p50_us"], "p99": counted["p99_us"]}
