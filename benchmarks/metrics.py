"""What is measured: the name, unit and direction of each figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Figures = Mapping[str, float]
"""What one run of a workload on one system gives, by the key of the metric."""


STREAMS: Final = (0, 1000, 2000, 5000)
"""Numbers of idle streams that memory is measured with."""


@dataclass(frozen=True)
class Metric:
    """One column of figures.

    Args:
        against: the system that ratios are made to, where the usual one cannot do it.
        brief: what it is called where there is little room.
    """

    title: str
    unit: str
    digits: int
    higher_is_better: bool = False
    against: str = ""
    brief: str = ""


METRICS: Final = {
    "upload": Metric("One stream, client to destination", "Gbit/s", 2, True, brief="1 stream, up"),
    "download": Metric(
        "One stream, destination to client", "Gbit/s", 2, True, brief="1 stream, down"
    ),
    "upload_8": Metric(
        "Eight streams, client to destination", "Gbit/s", 2, True, brief="8 streams, up"
    ),
    "download_8": Metric(
        "Eight streams, destination to client", "Gbit/s", 2, True, brief="8 streams, down"
    ),
    "cpu_per_gb": Metric("CPU of all its programs, one stream", "s/GB", 3, brief="CPU per GB"),
    "relay_cpu_per_gb": Metric(
        "CPU of the program on the public host, one stream", "s/GB", 3, brief="relay CPU per GB"
    ),
    "p50": Metric("Ping-pong of 64 bytes, round trip, p50", "µs", 1, brief="ping-pong p50"),
    "p99": Metric("Ping-pong of 64 bytes, round trip, p99", "µs", 1, brief="ping-pong p99"),
    "p999": Metric("Ping-pong of 64 bytes, round trip, p99.9", "µs", 1, brief="ping-pong p99.9"),
    "loaded_p50": Metric(
        "Ping-pong beside a stream of bulk data, p50", "µs", 1, brief="p50 beside bulk"
    ),
    "loaded_p99": Metric(
        "Ping-pong beside a stream of bulk data, p99", "µs", 1, brief="p99 beside bulk"
    ),
    "loaded_bulk": Metric(
        "That stream of bulk data meanwhile", "Gbit/s", 2, True, brief="bulk beside ping-pong"
    ),
    "connections": Metric("New connections", "1/s", 0, True, brief="connections/s"),
    "cpu_per_10000": Metric(
        "CPU of all its programs, 10,000 connections", "s", 2, brief="CPU, connections"
    ),
    "relay_cpu_per_10000": Metric(
        "CPU of the program on the public host, 10,000 connections",
        "s",
        2,
        brief="relay CPU, connections",
    ),
    "first_byte_p50": Metric(
        "From connect to the first byte, p50", "ms", 3, brief="first byte p50"
    ),
    "first_byte_p99": Metric(
        "From connect to the first byte, p99", "ms", 3, brief="first byte p99"
    ),
    "far_connections": Metric(
        "New connections, 16 at a time, paths of 50 ms", "1/s", 0, True, brief="connections/s, far"
    ),
    "far_first_byte_p50": Metric(
        "From connect to the first byte, paths of 50 ms, p50", "ms", 1, brief="first byte p50, far"
    ),
    "far_first_byte_p99": Metric(
        "From connect to the first byte, paths of 50 ms, p99", "ms", 1, brief="first byte p99, far"
    ),
    "requests_1": Metric("HTTP requests, 1 connection", "1/s", 0, True, brief="HTTP, 1"),
    "requests": Metric("HTTP requests, 64 connections", "1/s", 0, True, brief="HTTP, 64"),
    "requests_256": Metric("HTTP requests, 256 connections", "1/s", 0, True, brief="HTTP, 256"),
    "cpu_of_requests": Metric(
        "CPU of all its programs, 1,000 HTTP requests", "s", 3, brief="CPU, HTTP"
    ),
    "datagrams": Metric(
        "Datagrams of 512 bytes, there and back", "1/s", 0, True, "direct", brief="datagrams/s"
    ),
    "datagrams_lost": Metric("Datagrams that did not come back", "%", 2, against="direct"),
    "resident": Metric("Resident memory, idle, the largest of its programs", "MiB", 1),
    **{
        f"memory_{count}": Metric(
            f"Resident memory of all its programs, {count:,} idle streams",
            "MiB",
            1,
            brief=f"memory, all, {count:,} idle",
        )
        for count in STREAMS
    },
    **{
        f"relay_memory_{count}": Metric(
            f"Resident memory of the program on the public host, {count:,} idle streams",
            "MiB",
            1,
            brief=f"memory, relay, {count:,} idle",
        )
        for count in STREAMS
    },
}
"""In the order of the tables."""
