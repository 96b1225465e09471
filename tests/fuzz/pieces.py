"""The sizes of pieces that streams come in."""

from __future__ import annotations

from typing import Final

MOST_PIECES: Final = 12
"""Pieces of one stream: of more, an input costs time and shows nothing new."""


def piece_size(number: int, stream: bytes) -> int:
    """Return the size that ``number``, a part of the input, chooses."""
    return max(1 + number, len(stream) // MOST_PIECES)
