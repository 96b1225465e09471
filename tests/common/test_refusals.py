"""A no, as it is shown."""

from __future__ import annotations

from common.refusals import Refusal, listing


def test_a_refusal_shows_its_sentence() -> None:
    assert str(Refusal("wrong-role", "may not; ask")) == "may not; ask"


def test_long_lists_are_cut() -> None:
    assert listing(["a", "b"]) == "a, b"
    assert listing(list(range(9)), most=3) == "0, 1, 2 and 6 more"
