"""Pipes for splice(2): borrowed for as long as bytes are in them."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from typing import Final

if sys.platform.startswith("linux"):
    import fcntl

PIPE_SIZE: Final = 256 * 1024
"""Bytes a pipe should hold: 64 pages. More was no faster, and fewer fit under the kernel's
``pipe-user-pages-soft`` (64 MiB for an unprivileged user; past it pipes have one page)."""
SPARE_PIPES: Final = 64
"""Empty pipes kept for the next burst."""
RESERVE: Final = 8
"""Pipes made at the start: they still work when no descriptor is left."""


class Pipes:
    """Empty pipes for whoever needs one for a moment."""

    def __init__(self, *, reserve: bool = True) -> None:
        self._spare = [_new_pipe() for _ in range(RESERVE if reserve else 0)]
        self.lent = 0

    def take(self) -> tuple[int, int]:
        """Return the reading and the writing end of an empty, non-blocking pipe.

        Raises:
            OSError: no descriptor is left.
        """
        pipe = self._spare.pop() if self._spare else _new_pipe()
        self.lent += 1
        return pipe

    def give_back(self, pipe: tuple[int, int]) -> None:
        """Take back a pipe that is empty."""
        self.lent -= 1
        if len(self._spare) < SPARE_PIPES:
            self._spare.append(pipe)
        else:
            _close(pipe)

    def discard(self, pipe: tuple[int, int]) -> None:
        """Close a pipe in which bytes are left."""
        self.lent -= 1
        _close(pipe)

    def close(self) -> None:
        """Close the spare pipes."""
        while self._spare:
            _close(self._spare.pop())


def _new_pipe() -> tuple[int, int]:
    pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # past the limit a small pipe works too, with more calls
        fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    return pipe


def _close(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    os.close(pipe[1])


def can_splice() -> bool:
    """Whether the kernel moves bytes here: Linux, and not refused by a sandbox."""
    if not hasattr(os, "splice") or not sys.platform.startswith("linux"):
        return False
    try:
        pipe = _new_pipe()
    except OSError:
        return False
    left, right = socket.socketpair()
    try:
        right.send(b"?")
        return os.splice(left.fileno(), pipe[1], 1) == 1
    except OSError:
        return False
    finally:
        _close(pipe)
        left.close()
        right.close()
