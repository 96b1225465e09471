"""What this suite promises beside its peers, and whether a run has kept it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.results import BASELINE, Results, Summary

SUITE: Final = "suite"


@dataclass(frozen=True)
class Target:
    """A bound on a figure, or, with ``to``, on its ratio to another system's."""

    text: str
    metric: str
    bound: float
    to: str = ""
    at_least: bool = False
    system: str = SUITE

    def measured(self, results: Results) -> Summary | None:
        """Return the figure or the ratio, or ``None`` if it was not measured."""
        if self.to:
            return results.ratio(self.metric, self.system, self.to)
        return results.summary(self.metric, self.system)

    def met(self, measured: Summary) -> bool:
        """Whether the median keeps the bound."""
        return measured.median >= self.bound if self.at_least else measured.median <= self.bound

    @property
    def limit(self) -> str:
        """The bound in words."""
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.bound:g}{' x' if self.to else ' MiB'}"


TARGETS: Final = (
    Target("throughput, client to destination", "upload", 1.2, BASELINE, at_least=True),
    Target("throughput, destination to client", "download", 1.2, BASELINE, at_least=True),
    Target("64-byte ping-pong, p50", "p50", 1.0, BASELINE),
    Target("new connections per second", "connections", 2.5, BASELINE, at_least=True),
    Target("relay CPU per GB, to HAProxy splicing TCP", "relay_cpu_per_gb", 1.0, "haproxy-tcp"),
    *(
        Target(f"exposed port, {way}", metric, 1.0, BASELINE, at_least=more, system="exposed")
        for way, metric, more in (
            ("throughput, visitor to service", "upload", True),
            ("throughput, service to visitor", "download", True),
            ("64-byte ping-pong, p50", "p50", False),
        )
    ),
    *(
        Target(
            f"raw exposed port, {way}, to HAProxy splicing twice",
            metric,
            1.0,
            "haproxy-tcp-2",
            at_least=more,
            system="exposed-raw",
        )
        for way, metric, more in (
            ("throughput, visitor to service", "upload", True),
            ("throughput, service to visitor", "download", True),
            ("64-byte ping-pong, p50", "p50", False),
        )
    ),
    Target(
        "HTTP requests through a host name, to HAProxy in HTTP mode",
        "requests",
        0.5,
        "haproxy-http",
        at_least=True,
        system="named",
    ),
    Target("resident memory of each program, idle", "resident", 45),
    Target("resident memory of the relay, 2,000 idle pairs", "relay_resident_2000", 70),
)
