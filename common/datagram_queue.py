"""Frames of datagrams that wait for room on a channel: bounded, and the oldest goes first.

Late datagrams are worth less than new ones, so a full queue drops its oldest. FLOW and FORGET
frames are never dropped: they are few, and the other side would not understand what follows.
"""

from __future__ import annotations

from collections import deque
from typing import Final

MOST_BYTES: Final = 1024 * 1024
"""Bytes that wait: 80 ms of a path with 100 Mbit/s."""
MOST_OTHERS: Final = 4096
"""FLOW and FORGET frames that wait before new sources are turned away: spoofed ones, then."""


class DatagramQueue:
    """What waits, in order."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._frames: deque[tuple[bytes, bool]] = deque()  # and whether it is a datagram
        self._bytes = 0
        self._others = 0  # frames that are no datagrams
        self.dropped = 0
        """Datagrams that had to go, ever."""

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def crowded(self) -> bool:
        """Whether no further flow should begin: its FLOW could not be dropped."""
        return self._others >= MOST_OTHERS

    def put(self, frame: bytes, *, datagram: bool) -> None:
        """Let a frame wait; the oldest datagrams go if there is no room."""
        self._frames.append((frame, datagram))
        self._bytes += len(frame)
        self._others += not datagram
        while self._bytes > self._most and self._drop_oldest():
            pass

    def take(self) -> bytes:
        """Return all that waits, as one."""
        data = b"".join(frame for frame, _ in self._frames)
        self.clear()
        return data

    def clear(self) -> None:
        """Forget what waits."""
        self._frames.clear()
        self._bytes = self._others = 0

    def _drop_oldest(self) -> bool:
        kept: list[tuple[bytes, bool]] = []
        while self._frames:
            frame, datagram = self._frames.popleft()
            if datagram:
                self._bytes -= len(frame)
                self.dropped += 1
                break
            kept.append((frame, datagram))
        else:
            self._frames.extend(kept)
            return False
        self._frames.extendleft(reversed(kept))
        return True
