"""What a decision returns when it says no."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """A no, with its reason.

    Args:
        code: the reason's stable name for logs, metrics and the wire, such as ``"expired-key"``.
        detail: the sentence for the user: the cause and the next step.
    """

    code: str
    detail: str

    def __str__(self) -> str:
        return self.detail


def listing(items: Sequence[object], most: int = 5) -> str:
    """Return ``items`` for a sentence: the first ``most``, and how many there are besides.

    A refusal travels in one control message of at most 4 KiB; a list may be longer than that.
    """
    shown = ", ".join(map(str, items[:most]))
    return f"{shown} and {len(items) - most} more" if len(items) > most else shown
