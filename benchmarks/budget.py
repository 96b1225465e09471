"""How long the next run may take: what is left of the time, shared by what is left to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SHORTEST_S: Final = 0.15
"""A run below this says nothing; rather, what does not fit is left out."""

LEARN_S: Final = 5.0
"""Expected seconds after which the slowness of the machine is known."""
MOST_SLOWNESS: Final = 4.0


@dataclass(frozen=True)
class Cost:
    """What one step takes: so many lengths of a run, and seconds that do not depend on them."""

    lengths: float
    fixed_s: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.lengths + other.lengths, self.fixed_s + other.fixed_s)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.lengths * times, self.fixed_s * times)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.lengths - other.lengths, self.fixed_s - other.fixed_s)


class Budget:
    """Shares time among steps, and learns how much slower than expected the machine is.

    Args:
        longest_s: how long a run takes when there is time enough.
        left: what all steps together cost.
        now: when it begins, on a clock in seconds.
        total_s: how long all may take, or ``None``: as long as it takes.
    """

    def __init__(self, longest_s: float, left: Cost, now: float, total_s: float | None) -> None:
        self.left = left
        self._longest_s = longest_s
        self._began = now
        self._until = None if total_s is None else now + total_s
        self._running_s = self._fixed_s = 0.0

    def take(self, step: Cost, now: float) -> float | None:
        """Return how many seconds a run in this step may take, or ``None`` if time is over."""
        fits = self.fits(step, now)
        share = self._longest_s
        if self._until is not None and self.left.lengths:
            share = (self._until - now - self.left.fixed_s * self.slowness(now)) / self.left.lengths
        self.left -= step
        if not fits:
            return None
        seconds = min(max(share, SHORTEST_S), self._longest_s)
        self._running_s += step.lengths * seconds
        self._fixed_s += step.fixed_s
        return seconds

    def fits(self, cost: Cost, now: float) -> bool:
        """Whether there is time for steps of this cost, with the shortest of runs."""
        needed_s = cost.fixed_s * self.slowness(now) + cost.lengths * SHORTEST_S
        return self._until is None or now + needed_s <= self._until

    def slowness(self, now: float) -> float:
        """Return how many times longer than expected the steps so far took beside their runs."""
        if self._fixed_s < LEARN_S:
            return 1.0
        return min(max((now - self._began - self._running_s) / self._fixed_s, 1.0), MOST_SLOWNESS)
