"""Flows of datagrams: one for each source address and port, numbered, bounded, forgotten when idle.

A pure table, the same at both ends of a stream: the opener looks flows up by their source, and both
by their number. In order of use, so the flow that has been idle for longest is the first.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

MOST_FLOWS: Final = 1024
"""Flows of one port; for one more, the one that has been idle for longest goes."""
IDLE_S: Final = 60.0
"""Seconds without a datagram either way after which a flow is over (RFC 4787 asks NATs for 120;
a flow costs nothing to begin anew here)."""

LAST_NUMBER: Final = 2**32 - 1
"""The largest number that a frame has room for; none is used twice in a stream."""
SPARE_NUMBERS: Final = 2**16
"""Numbers that are left when it is time for another stream: more than come in at once."""

SourceT = TypeVar("SourceT", bound=Hashable)


class FlowTable(Generic[SourceT]):
    """The flows of one stream."""

    def __init__(self, most: int = MOST_FLOWS) -> None:
        self._most = most
        self._last = 0
        self._numbers: dict[SourceT, int] = {}
        self._flows: dict[int, tuple[SourceT, float]] = {}  # and when it was last used; in order

    def __len__(self) -> int:
        return len(self._flows)

    @property
    def worn_out(self) -> bool:
        """Whether the stream should end, for want of numbers: a flood of sources wears it out."""
        return self._last > LAST_NUMBER - SPARE_NUMBERS

    def number(self, source: SourceT, now: float) -> tuple[int, bool, int]:
        """Return the number of the flow of ``source``, used ``now``.

        Returns:
            The number, whether it is new, and the number of a flow that had to go for it, or 0.
        """
        number = self._numbers.get(source)
        if number is not None:
            self.use(number, now)
            return number, False, 0
        evicted = 0
        if len(self._flows) >= self._most:
            evicted = next(iter(self._flows))
            self.remove(evicted)
        self._last += 1
        self._numbers[source] = self._last
        self._flows[self._last] = source, now
        return self._last, True, evicted

    def __contains__(self, source: SourceT) -> bool:
        return source in self._numbers

    def use(self, number: int, now: float) -> SourceT | None:
        """Note that a flow is used; return its source, or ``None`` if it is over."""
        flow = self._flows.pop(number, None)
        if flow is None:
            return None
        self._flows[number] = flow[0], now
        return flow[0]

    def remove(self, number: int) -> bool:
        """Forget a flow; return whether there was one."""
        flow = self._flows.pop(number, None)
        if flow is None:
            return False
        del self._numbers[flow[0]]
        return True

    def expire(self, now: float, idle_s: float) -> list[int]:
        """Forget the flows that have been idle for ``idle_s`` seconds; return their numbers."""
        over = []
        for number, (_, used_at) in self._flows.items():
            if now - used_at < idle_s:
                break
            over.append(number)
        for number in over:
            self.remove(number)
        return over

    def clear(self) -> None:
        """Forget all; numbers begin anew with the next stream."""
        self._numbers.clear()
        self._flows.clear()
        self._last = 0
