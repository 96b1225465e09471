"""How much a stream moves in one turn of the loop, so that small messages need not wait long.

A stream of bulk data is fastest with 256 KiB in a turn, and each such turn takes a third of a
millisecond, in every program on the way. A keystroke that has come meanwhile waits for all of them.
So who has just seen a small message says so, and streams of bulk data take short turns for a
while: slower by a quarter, but only while somebody else's messages come and go beside them.

The small messages of a bulk stream itself (its acknowledgements, its requests) do not count.
"""

from __future__ import annotations

from typing import Final

SMALL_MESSAGE: Final = 4096
"""Bytes of the largest read that is taken for a message somebody waits for."""
SHORT: Final = 32 * 1024
"""Bytes that a bulk stream reads in a short turn."""
SHORT_TURNS: Final = 64
"""Turns that are short after a small message: about 3 ms."""


class Fairness:
    """What the streams of one process, which has one loop, know of each other."""

    __slots__ = ("_left", "_who")

    def __init__(self) -> None:
        self._left = 0
        self._who = -1

    def small_message(self, who: int) -> None:
        """Note that a small message has come in the stream ``who``.

        ``who`` is a descriptor that stands for both ways of it.
        """
        self._who = who
        self._left = SHORT_TURNS

    def short_turn(self, who: int) -> bool:
        """Return whether the stream ``who`` should read no more than ``SHORT`` bytes now."""
        if not self._left or self._who == who:
            return False
        self._left -= 1
        return True


FAIRNESS: Final = Fairness()
"""The one of this process."""
