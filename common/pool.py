"""How many links to keep, decided purely: numbers and times in, numbers out.

An opener keeps channels ready *before* its sources arrive; an acceptor keeps links pending, for it
cannot know who comes. Both grow in a burst at once and shrink slowly: a :class:`HighWater` mark
remembers the largest need of the last while, so that a rhythm of bursts costs no new handshakes.
"""

from __future__ import annotations

from dataclasses import dataclass


class HighWater:
    """The largest value seen within the last ``linger_s`` to ``2 * linger_s`` seconds.

    Two buckets of ``linger_s`` seconds each: cheap, and exact enough for a pool.
    """

    __slots__ = ("_bucket", "_current", "_linger_s", "_previous")

    def __init__(self, linger_s: float) -> None:
        self._linger_s = linger_s
        self._bucket = 0.0  # when the current bucket began
        self._current = 0
        self._previous = 0

    def observe(self, value: int, now: float) -> int:
        """Note ``value`` at ``now`` (seconds, monotonic) and return the mark."""
        age = now - self._bucket
        if age >= self._linger_s:
            self._previous = self._current if age < 2 * self._linger_s else 0
            self._current = 0
            self._bucket = now
        self._current = max(self._current, value)
        return max(self._previous, self._current)


@dataclass(frozen=True, slots=True)
class PoolSize:
    """Bounds of a pool: ``minimum`` is always ready, ``limit`` is never exceeded."""

    minimum: int
    limit: int

    def for_opener(self, busy: int, waiting: int) -> int:
        """Return how many channels and links to have in all.

        Half of the minimum stays ready beyond what is used, so a burst finds some; one stream
        after the other, however many, never asks for more than the minimum.

        Args:
            busy: channels that carry a stream.
            waiting: sources for which no channel was ready.
        """
        spare = (self.minimum + 1) // 2
        return min(max(self.minimum, busy + waiting + spare), self.limit)

    def for_acceptor(self, channels: int, backlog: int) -> int:
        """Return how many links to keep pending.

        Args:
            channels: channels that exist, idle or busy.
            backlog: openers' links that the relay could not pair when it was last heard.
        """
        return max(0, min(max(self.minimum, backlog), self.limit - channels))
