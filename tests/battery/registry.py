"""The list of all cases, in the order in which their modules declare them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.battery import cases

if TYPE_CHECKING:
    from tests.battery.bench import Battery

Run = Callable[["Battery"], str]


class Skipped(Exception):  # noqa: N818 - no error
    """This machine cannot run the case; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    Attributes:
        name: ``group: what happens``, unique.
        run: breaks something, checks, and returns its figure as a phrase.
        quick: whether its quick size belongs to ``make test``, which has minutes for all of them.
        deadline_s: for the quick size; the full one has none but the user's patience.
    """

    name: str
    run: Run
    quick: bool
    deadline_s: float


_cases: dict[str, Case] = {}


def case(name: str, *, quick: bool = True, deadline_s: float = 60) -> Callable[[Run], Run]:
    """Register the decorated function as a case."""

    def register(run: Run) -> Run:
        assert name not in _cases, f"two cases are called {name!r}"
        _cases[name] = Case(name, run, quick, deadline_s)
        return run

    return register


def all_cases() -> list[Case]:
    """Return every case."""
    for module in pkgutil.iter_modules(cases.__path__):
        importlib.import_module(f"{cases.__name__}.{module.name}")
    return list(_cases.values())
