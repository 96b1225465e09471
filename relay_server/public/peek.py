"""Looks at the first bytes of a connection and takes none of them: whoever gets it reads them.

While more bytes are needed the kernel is asked to wake us only when there are more
(``SO_RCVLOWAT``), or a peek that changes nothing would be repeated without end. Who sends its bytes
one by one is looked at a few times a second: looking costs more than sending.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from typing import Final

from relay_server.public.first_bytes import MOST, Other, Silent, Verdict, classify

DEADLINE_S: Final = 5.0
"""Seconds for bytes that say what a connection is."""
PROMPT_LOOKS: Final = 16
"""Looks that are not put off: as many segments as the bytes of an honest client come in."""
PAUSE_S: Final = 0.1

_ON_LINUX: Final = sys.platform.startswith("linux")
_ENDED: Final = (7, 8)  # CLOSE, after a RST, and CLOSE_WAIT, after a FIN (net/tcp_states.h)


class Peek:
    """One look at one connection; ``on_verdict`` is called once, never from within :meth:`start`.

    Args:
        sock: non-blocking; the caller's.
        silent_s: seconds of silence after which the connection is ``Silent``.
        deadline_s: seconds after which bytes that say nothing yet are ``Other``.
    """

    __slots__ = (
        "_deadline",
        "_looks",
        "_loop",
        "_on_verdict",
        "_resume",
        "_seen",
        "_silence",
        "sock",
    )

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
        self._looks = 0
        self._silence = loop.call_later(silent_s, self._settle, Silent())
        self._deadline = loop.call_later(deadline_s, self._give_up)
        self._resume: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look."""
        self._loop.add_reader(self.sock.fileno(), self._look)

    def cancel(self) -> None:
        """Look no more; no verdict follows, and the connection is closed."""
        self._stop()
        self.sock.close()

    def _look(self) -> None:
        try:
            ended = _has_ended(self.sock)  # asked first: all that came before the end is seen then
            data = self.sock.recv(MOST, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:  # it was reset
            self._settle(Silent())
            return
        self._silence.cancel()
        verdict = classify(data, ended=ended) if data else Silent()
        if verdict is not None:
            self._settle(verdict)
            return
        self._seen = len(data)
        self._wake_at(self._seen + 1)
        self._looks += 1
        if self._looks >= PROMPT_LOOKS:
            self._loop.remove_reader(self.sock.fileno())
            self._resume = self._loop.call_later(PAUSE_S, self.start)

    def _give_up(self) -> None:
        self._settle(Other() if self._seen else Silent())

    def _settle(self, verdict: Verdict) -> None:
        self._stop()
        self._on_verdict(verdict)

    def _stop(self) -> None:
        self._silence.cancel()
        self._deadline.cancel()
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self.sock.fileno())
        if self._seen:
            self._wake_at(1)

    def _wake_at(self, count: int) -> None:
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)


def _has_ended(sock: socket.socket) -> bool:
    """Whether the client has said all it will. Off Linux that is not seen: the deadline decides."""
    return _ON_LINUX and sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _ENDED
