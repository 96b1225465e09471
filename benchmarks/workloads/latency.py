"""Round trips of 64 bytes on one connection, one after the other."""

from __future__ import annotations

from benchmarks.metrics import Figures
from benchmarks.systems.base import System
from benchmarks.workloads.base import GB, run_client


def pingpong(system: System, seconds: float) -> Figures:
    """Return p50, p99 and p99.9 of the round trip in µs."""
    counted, _ = run_client(system, "pingpong", seconds)
    return {name: counted[f"{name}_us"] for name in ("p50", "p99", "p999")}


def beside_bulk(system: System, seconds: float) -> Figures:
    """Return p50 and p99 beside a stream of bulk data on another connection, and its Gbit/s."""
    counted, _ = run_client(system, "beside_bulk", seconds)
    figures = {f"loaded_{name}": counted[f"{name}_us"] for name in ("p50", "p99")}
    return {**figures, "loaded_bulk": counted["bytes"] * 8 / counted["seconds"] / GB}
