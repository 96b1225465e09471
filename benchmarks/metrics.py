"""What is measured: the name, unit and direction of each figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Figures = Mapping[str, float]
"""What one run of a workload on one system gives, by the key of the metric."""


@dataclass(frozen=True)
class Metric:
    """One column of figures."""

    title: str
    unit: str
    digits: int
    higher_is_better: bool = False


METRICS: Final = {
    "upload": Metric("One stream, client to destination", "Gbit/s", 2, higher_is_better=True),
    "download": Metric("One stream, destination to client", "Gbit/s", 2, higher_is_better=True),
    "cpu_per_gb": Metric("CPU of all its programs, one stream", "s/GB", 3),
    "relay_cpu_per_gb": Metric("CPU of the relay, one stream", "s/GB", 3),
    "p50": Metric("Ping-pong of 64 bytes, round trip, p50", "µs", 1),
    "p99": Metric("Ping-pong of 64 bytes, round trip, p99", "µs", 1),
    "connections": Metric("New connections", "1/s", 0, higher_is_better=True),
    "cpu_per_connection": Metric("CPU of all its programs, a connection", "ms", 3),
    "requests": Metric("HTTP requests, 64 connections", "1/s", 0, higher_is_better=True),
    "cpu_per_1000_requests": Metric("CPU of all its programs, 1,000 HTTP requests", "s", 3),
    "resident": Metric("Resident memory, idle, the largest of its programs", "MiB", 1),
    "relay_resident": Metric("Resident memory of the relay, idle", "MiB", 1),
    "relay_resident_2000": Metric("Resident memory of the relay, 2,000 idle pairs", "MiB", 1),
}
