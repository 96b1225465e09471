"""How long to wait before trying again: exponential backoff with full jitter.

Full jitter (a random share of the whole delay) spreads clients that lost their relay in the same
moment best: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """A sequence of delays: the n-th is a random share of ``min(cap_s, base_s * 2**n)`` seconds.

    Args:
        rng: returns a number in [0, 1), such as ``random.random``.
        base_s: the longest that the first delay can be.
        cap_s: the longest that any delay can be.
    """

    def __init__(
        self, *, rng: Callable[[], float], base_s: float = 0.5, cap_s: float = 30.0
    ) -> None:
        self._rng, self._base_s, self._cap_s = rng, base_s, cap_s
        self._ceiling_s = min(base_s, cap_s)

    def next_delay(self) -> float:
        """Seconds to wait before the next attempt; each call is one failure more."""
        ceiling_s = self._ceiling_s
        self._ceiling_s = min(ceiling_s * 2, self._cap_s)
        return self._rng() * ceiling_s

    def reset(self) -> None:
        """An attempt succeeded: begin again with short delays."""
        self._ceiling_s = min(self._base_s, self._cap_s)
