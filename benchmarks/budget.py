"""How long the next run may take: what is left of the time, shared by what is left to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SHORTEST_S: Final = 0.15
"""A run below this says nothing; rather, what does not fit is left out."""


@dataclass(frozen=True)
class Cost:
    """What one step takes: so many lengths of a run, and seconds that do not depend on them."""

    lengths: float
    fixed_s: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.lengths + other.lengths, self.fixed_s + other.fixed_s)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.lengths - other.lengths, self.fixed_s - other.fixed_s)


@dataclass
class Budget:
    """Shares time among steps.

    Args:
        longest_s: how long a run takes when there is time enough.
        left: what all steps together cost.
        until: when all must have ended, on the clock of ``now``; or never.
    """

    longest_s: float
    left: Cost
    until: float | None = None

    def take(self, step: Cost, now: float) -> float | None:
        """Return how many seconds a run in this step may take, or ``None`` if time is over."""
        left, self.left = self.left, self.left - step
        if self.until is None or not step.lengths:
            return self.longest_s if self.until is None or now < self.until else None
        share = (self.until - now - left.fixed_s) / left.lengths
        if now + step.fixed_s + step.lengths * SHORTEST_S > self.until:
            return None
        return min(max(share, SHORTEST_S), self.longest_s)
