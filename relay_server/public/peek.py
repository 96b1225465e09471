"""Looks at the first bytes of a connection and takes none of them: whoever gets it reads them.

While more bytes are needed the kernel is asked to wake us only when there are more
(``SO_RCVLOWAT``), or a peek that changes nothing would be repeated without end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

from relay_server.public.first_bytes import MOST, Other, Silent, Verdict, classify

DEADLINE_S: Final = 5.0
"""Seconds for bytes that say what a connection is."""


class Peek:
    """One look at one connection; ``on_verdict`` is called once, never from within :meth:`start`.

    Args:
        sock: non-blocking; the caller's.
        silent_s: seconds of silence after which the connection is ``Silent``.
    """

    __slots__ = ("_deadline", "_loop", "_on_verdict", "_seen", "_silence", "sock")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_verdict: Callable[[Verdict], None],
        *,
        silent_s: float,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self.sock = sock
        self._loop = loop
        self._on_verdict = on_verdict
        self._seen = 0
        self._silence = loop.call_later(silent_s, self._settle, Silent())
        self._deadline = loop.call_later(deadline_s, self._settle, Other())

    def start(self) -> None:
        """Begin to look."""
        self._loop.add_reader(self.sock.fileno(), self._look)

    def cancel(self) -> None:
        """Look no more; no verdict follows, and the connection is closed."""
        self._stop()
        self.sock.close()

    def _look(self) -> None:
        try:
            data = self.sock.recv(MOST, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:  # whoever gets the connection is told so again
            self._settle(Silent())
            return
        self._silence.cancel()
        ended = len(data) == self._seen  # woken without more: nothing more will come
        verdict = classify(data, ended=ended) if data else Silent()
        if verdict is None:
            self._seen = len(data)
            self._wake_at(self._seen + 1)
        else:
            self._settle(verdict)

    def _settle(self, verdict: Verdict) -> None:
        self._stop()
        self._on_verdict(verdict)

    def _stop(self) -> None:
        self._silence.cancel()
        self._deadline.cancel()
        self._loop.remove_reader(self.sock.fileno())
        if self._seen:
            self._wake_at(1)

    def _wake_at(self, count: int) -> None:
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
