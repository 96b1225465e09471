"""The quick part of the battery: every case that has one, at its small size."""

from __future__ import annotations

import pytest

from tests.battery.bench import Battery
from tests.battery.registry import Case, Skipped, all_cases

SEED = 20_231


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(each, id=each.name, marks=pytest.mark.timeout(each.deadline_s))
        for each in all_cases()
        if each.quick
    ],
)
def test_case(case: Case) -> None:
    try:
        figure = case.run(Battery(quick=True, seed=SEED))
    except Skipped as reason:
        pytest.skip(str(reason))
    assert figure
    print(case.name, "-", figure)
