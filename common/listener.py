"""An accept loop that survives running out of descriptors."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from common.addresses import HostPort, normalise_ip
from common.logs import event
from common.sockets import tune

log = logging.getLogger(__name__)

BATCH: Final = 16
"""Connections accepted at once before the loop turns to others. At the relay each costs 0.1 ms, and
more at once make its streams wait longer (64: 16 ms instead of 6) for no more accepted a second."""
PAUSE_S: Final = 0.05
"""Seconds without accepting when descriptors or memory ran out; the kernel queues meanwhile.
With 10 descriptors left 200 strangers a second are still turned away, and nothing spins."""

_OPTIONS_INHERITED: Final = sys.platform.startswith("linux")
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """Calls ``on_accept(sock, address)`` for every connection to ``sock`` until closed.

    Accepted sockets are non-blocking and tuned; they belong to the callback. When no descriptor is
    left the listener pauses instead of spinning (asyncio's own loop logs 40,000 lines in 6 s).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_accept: Callable[[socket.socket, HostPort], None],
    ) -> None:
        self.address = _address(*sock.getsockname()[:2])
        self._loop = loop
        self._sock = sock
        self._on_accept = on_accept
        self._resume: asyncio.TimerHandle | None = None
        loop.add_reader(sock.fileno(), self._accept)

    def close(self) -> None:
        """Stop listening; what was accepted lives on. May be called twice."""
        if self._resume is not None:
            self._resume.cancel()
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _accept(self) -> None:
        for _ in range(BATCH):
            try:
                sock, name = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                continue  # the connection ended before it was accepted: accept(2), "Error handling"
            sock.setblocking(False)
            if not _OPTIONS_INHERITED:
                tune(sock)
            self._on_accept(sock, _address(name[0], name[1]))
            if self._sock.fileno() < 0:
                return

    def _pause(self, error: OSError) -> None:
        event(
            log,
            logging.ERROR,
            "cannot accept connections; raise the limit (ulimit -n)",
            budget_key="cannot accept",
            address=str(self.address),
            reason=error.strerror,
        )
        self._loop.remove_reader(self._sock.fileno())
        self._resume = self._loop.call_later(
            PAUSE_S, self._loop.add_reader, self._sock.fileno(), self._accept
        )


@lru_cache(maxsize=1024)
def _normalised(host: str) -> str:
    return normalise_ip(host)


def _address(host: str, port: int) -> HostPort:
    return HostPort(_normalised(host), port)
