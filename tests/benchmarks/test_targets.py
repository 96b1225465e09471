"""A promise beside the best of the peers is judged by that one, and by its bound's kind."""

from __future__ import annotations

import pytest

from benchmarks.metrics import METRICS
from benchmarks.results import Results, Summary
from benchmarks.systems import SYSTEMS
from benchmarks.targets import TARGETS, Target


def measured(metric: str, **figures: float) -> Results:
    results = Results()
    for name, figure in figures.items():
        for number in range(3):
            results.add(name, number, {metric: figure * (number + 1)})
    return results


def test_the_best_peer_is_the_one_that_counts() -> None:
    results = measured("upload", suite=3.0, slow=1.0, fast=4.0)
    more = Target("", "upload", 1.0, ("slow", "fast", "absent"), at_least=True)
    assert more.measured(results) == (Summary(0.75, 0.75, 0.75), "fast")
    less = Target("", "upload", 1.0, ("slow", "fast", "absent"))
    assert less.measured(results) == (Summary(3.0, 3.0, 3.0), "slow")


def test_nobody_to_compare_with_is_nothing_measured() -> None:
    target = Target("", "upload", 1.0, ("absent",))
    assert target.measured(measured("upload", suite=1.0)) is None


@pytest.mark.parametrize(
    ("at_least", "strictly", "met"),
    [
        (True, True, [False, False, True]),
        (True, False, [False, True, True]),
        (False, True, [True, False, False]),
        (False, False, [True, True, False]),
    ],
)
def test_bounds(at_least: bool, strictly: bool, met: list[bool]) -> None:
    target = Target("", "p50", 1.0, ("peer",), at_least=at_least, strictly=strictly)
    assert [target.met(Summary(each, 0, 9)) for each in (0.9, 1.0, 1.1)] == met


@pytest.mark.parametrize("target", TARGETS, ids=lambda each: f"{each.system}-{each.metric}")
def test_every_target_names_what_exists(target: Target) -> None:
    assert target.metric in METRICS
    assert {target.system, *target.to} <= SYSTEMS.keys()
