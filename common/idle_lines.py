"""Which idle channel serves the next stream: a pure decision.

Load is spread over partner processes by the number of their open streams; among the channels of
one partner the one used last is used again, so that those a burst has left over stay unused and
can be closed, oldest first.
"""

from __future__ import annotations

from collections import Counter
from typing import Generic, Protocol, TypeVar


class HasPartner(Protocol):
    """What is known of a channel here: the process at its other end."""

    @property
    def instance(self) -> bytes:
        """16 bytes that name the partner's process."""


LineT = TypeVar("LineT", bound=HasPartner)


class IdleLines(Generic[LineT]):
    """The channels that carry no stream, and how many streams each partner has."""

    def __init__(self) -> None:
        self._idle: dict[bytes, dict[LineT, None]] = {}  # in order of last use
        self._streams: Counter[bytes] = Counter()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, line: LineT) -> bool:
        return line in self._idle.get(line.instance, {})

    def put(self, line: LineT) -> None:
        """Add a channel that was used last."""
        lines = self._idle.setdefault(line.instance, {})
        self._count += line not in lines
        lines[line] = None

    def take(self) -> LineT | None:
        """Remove and return the channel for the next stream, or ``None`` if there is none."""
        if not self._idle:
            return None
        instance = min(self._idle, key=self._streams.__getitem__)
        line, _ = self._idle[instance].popitem()
        self._removed(instance)
        return line

    def discard(self, line: LineT) -> None:
        """Remove the channel if it is here."""
        lines = self._idle.get(line.instance, {})
        if line in lines:
            del lines[line]
            self._removed(line.instance)

    def stream_began(self, instance: bytes) -> None:
        """Count a stream of the partner."""
        self._streams[instance] += 1

    def stream_ended(self, instance: bytes) -> None:
        """Count it no longer."""
        self._streams[instance] -= 1
        if not self._streams[instance]:
            del self._streams[instance]

    def _removed(self, instance: bytes) -> None:
        self._count -= 1
        if not self._idle[instance]:
            del self._idle[instance]
