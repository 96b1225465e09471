"""Every input that fuzzing has found worth keeping, and what chance makes of it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.registry import HARNESSES, Harness

HARNESS = pytest.mark.parametrize("harness", HARNESSES.values(), ids=HARNESSES.keys())
MOST_FILES = 100
MOST_BYTES = 200 * 1024


@HARNESS
def test_what_was_found_once_holds(harness: Harness) -> None:
    check = harness.load().check
    for data in harness.inputs():
        check(data)


@HARNESS
def test_a_corpus_is_small(harness: Harness) -> None:
    sizes = [path.stat().st_size for path in harness.corpus.glob("*")]
    assert 0 < len(sizes) < MOST_FILES
    assert sum(sizes) < MOST_BYTES
    assert max(sizes) <= harness.longest


@HARNESS
def test_what_chance_makes_of_it_holds(harness: Harness) -> None:
    loaded = harness.load()
    inputs = st.sampled_from(harness.inputs())
    pieces = st.one_of(st.binary(max_size=4), st.sampled_from(loaded.words), inputs)
    edits = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 8), pieces), max_size=4)

    @given(data=inputs, edits=edits)
    @settings(
        derandomize=True,
        max_examples=50,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def holds(data: bytes, edits: list[tuple[int, int, bytes]]) -> None:
        for place, removed, piece in edits:
            at = place % (len(data) + 1)
            data = data[:at] + piece + data[at + removed :]
        loaded.check(data)

    holds()
