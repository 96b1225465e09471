"""How many log lines of one kind may be written: a few in each window, the rest is counted.

Pure: the caller says what time it is.
"""

from __future__ import annotations

from dataclasses import dataclass

OTHERS = "others"
"""The key under which everything is counted that came when all ``max_keys`` were taken."""


@dataclass(slots=True)
class _Window:
    started: float
    admitted: int = 0
    suppressed: int = 0
    """In this window."""
    owed: int = 0
    """In windows that have ended, not yet told."""


class LogBudget:
    """Admits ``burst`` lines of each key in a window and counts the others.

    Args:
        burst: lines of one key that are written in a window.
        window_s: its length in seconds, from the first line.
        max_keys: windows that are kept at once; peers choose some keys, so their number must be
            bounded. Keys beyond it share one window, :data:`OTHERS`.
    """

    def __init__(self, burst: int = 5, window_s: float = 10.0, max_keys: int = 1024) -> None:
        self._burst, self._window_s, self._max_keys = burst, window_s, max_keys
        self._windows: dict[str, _Window] = {}
        self._next_purge = float("-inf")

    def admit(self, key: str, now: float) -> bool:
        """Whether a line of this key may be written at ``now`` (seconds, any origin)."""
        window = self._windows.get(key) or self._open(key, now)
        if now - window.started >= self._window_s:
            window.owed += window.suppressed
            window.started, window.admitted, window.suppressed = now, 0, 0
        if window.admitted < self._burst:
            window.admitted += 1
            return True
        window.suppressed += 1
        return False

    def filed_under(self, key: str) -> str:
        """The key that :meth:`summaries` uses for lines of ``key``: itself or :data:`OTHERS`."""
        return key if key in self._windows else OTHERS

    def __contains__(self, key: str) -> bool:
        """Whether a window of this key is open or has something left to tell."""
        return key in self._windows

    def summaries(self, now: float) -> list[tuple[str, int]]:
        """What was suppressed in windows that have ended at ``now``, as ``(key, count)``.

        Each line is told once. ``now=math.inf`` ends every window: for the last call.
        """
        told: list[tuple[str, int]] = []
        for key, window in list(self._windows.items()):
            count = window.owed
            window.owed = 0
            if now - window.started >= self._window_s:
                count += window.suppressed
                del self._windows[key]
            if count:
                told.append((key, count))
        return told

    def _open(self, key: str, now: float) -> _Window:
        if len(self._windows) >= self._max_keys and now >= self._next_purge:
            self._next_purge = now + self._window_s / 10  # a scan for every line would be the flood
            for old in [k for k, w in self._windows.items() if self._is_spent(w, now)]:
                del self._windows[old]
        if len(self._windows) >= self._max_keys:
            key = OTHERS
        return self._windows.setdefault(key, _Window(now))

    def _is_spent(self, window: _Window, now: float) -> bool:
        return now - window.started >= self._window_s and not window.suppressed + window.owed
