"""What this suite promises beside its peers, and whether a run has kept it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.results import BASELINE, Results, Summary

SUITE: Final = "suite"
PEERS: Final = (
    "haproxy-tls",
    "stunnel",
    "ssh-L",
    "ssh-R",
    "frp",
    "frp-nomux",
    "rathole-tls",
    "rathole-noise",
    "chisel",
)
"""The peers that encrypt between their programs."""


@dataclass(frozen=True)
class Target:
    """A bound on a figure, or, with ``to``, on its ratio to that of the best of some systems.

    Args:
        at_least: the bound is a lower one.
        strictly: the bound itself does not keep it.
    """

    text: str
    metric: str
    bound: float
    to: tuple[str, ...] = ()
    at_least: bool = False
    strictly: bool = False
    system: str = SUITE

    def measured(self, results: Results) -> tuple[Summary, str] | None:
        """Return the figure, or the ratio and to whom, or ``None`` if it was not measured."""
        if not self.to:
            figure = results.summary(self.metric, self.system)
            return (figure, "") if figure else None
        ratios = {each: results.ratio(self.metric, self.system, each) for each in self.to}
        found = [(ratio, name) for name, ratio in ratios.items() if ratio]
        choose = min if self.at_least else max
        return choose(found, key=lambda each: each[0].median, default=None)

    def met(self, measured: Summary) -> bool:
        """Whether the median keeps the bound."""
        if measured.median == self.bound:
            return not self.strictly
        return (measured.median > self.bound) == self.at_least

    @property
    def limit(self) -> str:
        """The bound in words."""
        signs = (
            (">" if self.strictly else "≥") if self.at_least else ("<" if self.strictly else "≤")
        )
        return f"{signs} {self.bound:g}{' x' if self.to else ' MiB'}"


def _against_peers(system: str, name: str) -> tuple[Target, ...]:
    """Return what ``system`` promises beside the best of the peers that encrypt."""
    return tuple(
        Target(f"{name}: {text}", metric, 1.0, PEERS, more, strictly, system)
        for text, metric, more, strictly in (
            ("throughput, client to destination", "upload", True, True),
            ("throughput, destination to client", "download", True, True),
            ("new connections per second", "connections", True, True),
            ("connect to first byte, p50", "first_byte_p50", False, True),
            ("the same on paths of 50 ms", "far_first_byte_p50", False, True),
            ("new connections per second there", "far_connections", True, True),
            ("relay CPU per GB", "relay_cpu_per_gb", False, True),
            ("64-byte ping-pong, p50", "p50", False, False),
            ("HTTP requests, 64 connections", "requests", True, False),
        )
    )


TARGETS: Final = (
    *_against_peers(SUITE, "three programs"),
    *_against_peers("exposed", "exposed port"),
    Target("throughput, client to destination", "upload", 1.2, (BASELINE,), at_least=True),
    Target("throughput, destination to client", "download", 1.2, (BASELINE,), at_least=True),
    Target("new connections per second", "connections", 2.5, (BASELINE,), at_least=True),
    Target("relay CPU per GB, beside splicing", "relay_cpu_per_gb", 1.0, ("haproxy-tcp",)),
    *(
        Target(
            f"raw exposed port, {text}",
            metric,
            1.0,
            ("haproxy-tcp-2",),
            at_least=more,
            system="exposed-raw",
        )
        for text, metric, more in (
            ("throughput, visitor to service", "upload", True),
            ("throughput, service to visitor", "download", True),
            ("64-byte ping-pong, p50", "p50", False),
        )
    ),
    Target(
        "HTTP requests through a host name",
        "requests",
        0.5,
        ("haproxy-http",),
        at_least=True,
        system="named",
    ),
    Target("resident memory of each program, idle", "resident", 45),
    Target("resident memory of the relay, 2,000 idle streams", "relay_memory_2000", 70),
)
"""Those beside all peers that encrypt first; then those beside one of them, and absolute ones."""
