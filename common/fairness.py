"""How much a stream moves in one turn of the loop, so that small messages need not wait long.

A stream of bulk data is fastest with 256 KiB in a turn, and each such turn takes a third of a
millisecond, in every program on the way. A keystroke that has come meanwhile waits for all of them.
So a small message makes the next turns of *all* streams short, for a few milliseconds: bulk data is
slower by a quarter then, and whoever sends it gets no more of the loop than others.

The small messages of a bulk stream itself (acknowledgements, window updates) do not count: nobody
waits for them, and a stream must not slow others while it moves bulk data.
"""

from __future__ import annotations

from typing import Final

SMALL_MESSAGE: Final = 4096
"""Bytes of the largest read that is taken for a message somebody waits for."""
SHORT: Final = 32 * 1024
"""Bytes that are read in a short turn."""
SHORT_TURNS: Final = 64
"""Turns with bulk data that are short after a small message: about 3 ms."""
OWN_MESSAGES: Final = 64
"""Small messages, both ways, after which a stream that moves no bulk data any more counts again."""


class Fairness:
    """What the streams of one process, which has one loop, know of each other."""

    __slots__ = ("short_turns",)

    def __init__(self) -> None:
        self.short_turns = 0
        """Turns with bulk data that are still to be short; while there are any, a stream reads at
        most ``SHORT`` bytes at once."""


FAIRNESS: Final = Fairness()
"""The one of this process."""


class Share:
    """One stream's part in it, both ways of it together.

    Args:
        ignored: bytes of a sign of life, for which nobody waits.
    """

    __slots__ = ("_fairness", "_ignored", "_own_messages")

    def __init__(self, ignored: int = 0, fairness: Fairness = FAIRNESS) -> None:
        self._ignored = ignored
        self._fairness = fairness
        self._own_messages = 0

    def took(self, count: int) -> None:
        """Note that ``count`` bytes of the stream were read in one turn."""
        if count > SMALL_MESSAGE:
            self._own_messages = OWN_MESSAGES
            if self._fairness.short_turns:
                self._fairness.short_turns -= 1
        elif count <= self._ignored:
            pass
        elif self._own_messages:
            self._own_messages -= 1
        else:
            self._fairness.short_turns = SHORT_TURNS
