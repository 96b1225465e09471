"""What a call comes to: its result, or the one error that it may raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

ResultT = TypeVar("ResultT")
ErrorT = TypeVar("ErrorT", bound=Exception)


def outcome(error: type[ErrorT], call: Callable[[], ResultT]) -> ResultT | ErrorT:
    """Return the result of ``call``, or the ``error`` that it raises; any other is a find."""
    try:
        return call()
    except error as raised:
        return raised
