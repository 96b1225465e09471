"""Samples of every metric by system and round; medians, spreads and paired ratios."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.metrics import METRICS, Figures

BASELINE = "haproxy-tls"
"""What the others are compared with."""


@dataclass(frozen=True)
class Summary:
    """A median and where the middle half of the samples lies."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Summary:
        """Return the summary of at least one sample."""
        if len(samples) < 2:
            return cls(samples[0], samples[0], samples[0])
        low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(statistics.median(samples), low, high)


@dataclass
class Results:
    """All samples of a run: ``samples[metric][system][round]``."""

    titles: dict[str, str] = field(default_factory=dict)
    """What each system is called, in the order of the tables."""
    security: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    """What could not be measured, and why."""
    samples: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)

    def add(self, system: str, number: int, figures: Figures) -> None:
        """Note the figures of one run in round ``number``."""
        for metric, value in figures.items():
            self.samples.setdefault(metric, {}).setdefault(system, {})[number] = value

    def metrics(self) -> list[str]:
        """Return the keys of the metrics that have samples, in the order of the tables."""
        return [each for each in METRICS if each in self.samples]

    def summary(self, metric: str, system: str) -> Summary | None:
        """Return the summary of a metric, or ``None`` if the system was not measured."""
        rounds = self.samples.get(metric, {}).get(system)
        return Summary.of(list(rounds.values())) if rounds else None

    def ratio(
        self, metric: str, system: str, to: str, to_metric: str | None = None
    ) -> Summary | None:
        """Return the ratio between two systems, each round's figures paired."""
        ours = self.samples.get(metric, {}).get(system, {})
        theirs = self.samples.get(to_metric or metric, {}).get(to, {})
        pairs = [ours[n] / theirs[n] for n in ours if theirs.get(n)]
        return Summary.of(pairs) if pairs else None
