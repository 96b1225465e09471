"""What is measured: each module runs one kind of load through a system, once."""

from __future__ import annotations

from typing import Final

from benchmarks.workloads.base import Workload
from benchmarks.workloads.bulk import bulk
from benchmarks.workloads.connections import connections
from benchmarks.workloads.http import http
from benchmarks.workloads.latency import pingpong

WORKLOADS: Final[dict[str, Workload]] = {
    "bulk": bulk,
    "pingpong": pingpong,
    "connections": connections,
    "http": http,
}
"""By name; each round runs all of them on all systems. Memory is measured once, before."""
