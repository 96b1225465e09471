"""What is measured: each module runs one kind of load through a system, once."""

from __future__ import annotations

from typing import Final

from benchmarks.budget import Cost
from benchmarks.workloads.base import Workload
from benchmarks.workloads.bulk import bulk, bulk_many
from benchmarks.workloads.connections import (
    FAR_LENGTHS,
    connections,
    far_connections,
    first_byte,
)
from benchmarks.workloads.http import http_requests
from benchmarks.workloads.latency import beside_bulk, pingpong
from benchmarks.workloads.memory import memory
from benchmarks.workloads.udp import datagrams

WORKLOADS: Final[dict[str, Workload]] = {
    "bulk": Workload("one stream each way", bulk, Cost(2, 0.15)),
    "bulk-8": Workload("eight streams each way", bulk_many, Cost(2, 0.2)),
    "pingpong": Workload("ping-pong", pingpong, Cost(1.3, 0.05)),
    "beside-bulk": Workload("ping-pong beside a bulk stream", beside_bulk, Cost(1.3, 0.1)),
    "connections": Workload("new connections", connections, Cost(1, 0.45)),
    "first-byte": Workload("time to first byte", first_byte, Cost(1.3, 0.05)),
    "http": Workload("HTTP, 64 connections", http_requests(64, "requests"), Cost(1, 0.5), "web"),
    "http-1": Workload("HTTP, 1 connection", http_requests(1, "requests_1"), Cost(1, 0.5), "web"),
    "http-256": Workload(
        "HTTP, 256 connections", http_requests(256, "requests_256"), Cost(1, 0.6), "web"
    ),
    "far-connections": Workload(
        "new connections, 50 ms path", far_connections, Cost(FAR_LENGTHS, 1.3), "far"
    ),
    "udp": Workload("datagrams", datagrams, Cost(1, 0.05), "udp"),
    "memory": Workload("memory", memory, Cost(0, 5.0), "crowd", fresh=True),
}
"""By name; each round runs all of one variant on all systems."""
