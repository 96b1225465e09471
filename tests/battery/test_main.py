"""What a run of the battery tells of its cases, and how it ends."""

from __future__ import annotations

import sys

import pytest

from tests.battery import __main__ as program
from tests.battery.bench import Battery
from tests.battery.registry import Case, Skipped


def holds(_: Battery) -> str:
    return "a figure"


def lacks(_: Battery) -> str:
    raise Skipped("needs a second moon")


def breaks(_: Battery) -> str:
    raise KeyError("[nothing] of the kind")


def run(monkeypatch: pytest.MonkeyPatch, **cases: object) -> int:
    found = [Case(name, what, True, 60) for name, what in cases.items()]  # type: ignore[arg-type]
    monkeypatch.setattr(program, "all_cases", lambda: found)
    monkeypatch.setattr(sys, "argv", ["tests.battery", "--seed", "7"])
    return program.main()


def test_any_exception_is_a_failed_case_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, first=breaks, second=lacks, third=holds) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("FAIL first - '[nothing] of the kind'")
    assert lines[2].startswith("skip second - needs a second moon")
    assert lines[3].startswith("ok   third - a figure")
    assert lines[-1] == "1 held, 1 skipped, 1 failed; seed 7"


def test_a_skipped_case_is_not_one_that_held(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, only=lacks) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 held, 1 skipped, 0 failed; seed 7"
