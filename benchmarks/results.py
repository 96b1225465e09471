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
    """All samples of a run: ``samples[metric][system][round]``.

    What a single program has used is a metric of its own, ``metric:program``.
    """

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

    def put_in_order(self, names: Sequence[str]) -> None:
        """Let the systems stand in the tables in this order."""
        self.titles = {name: self.titles[name] for name in names if name in self.titles}

    def metrics(self) -> list[str]:
        """Return the keys of the metrics that have samples, in the order of the tables."""
        return [each for each in METRICS if each in self.samples]

    def summary(self, metric: str, system: str) -> Summary | None:
        """Return the summary of a metric, or ``None`` if the system was not measured."""
        rounds = self.samples.get(metric, {}).get(system)
        return Summary.of(list(rounds.values())) if rounds else None

    def programs(self, metric: str, system: str) -> dict[str, Summary]:
        """Return the summaries of a metric for the programs of a system."""
        found = {}
        for name in self.samples:
            base, _, program = name.partition(":")
            if base == metric and program and (summary := self.summary(name, system)):
                found[program] = summary
        return found

    def skip(self, line: str) -> None:
        """Note once what could not be measured, and why."""
        if line not in self.skipped:
            self.skipped.append(line)

    def ratio(self, metric: str, system: str, to: str) -> Summary | None:
        """Return the ratio between two systems, each round's figures paired."""
        ours = self.samples.get(metric, {}).get(system, {})
        theirs = self.samples.get(metric, {}).get(to, {})
        pairs = [ours[n] / theirs[n] for n in ours if theirs.get(n)]
        return Summary.of(pairs) if pairs else None


def baseline_of(metric: str) -> str:
    """Return the system that a metric's ratios are made to."""
    return METRICS[metric].against or BASELINE
