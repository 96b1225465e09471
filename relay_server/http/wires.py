"""A visitor's connection as the HTTP edge uses it: in plain text, or with TLS ended here."""

from __future__ import annotations

import contextlib
import socket
from typing import ClassVar, Final, Protocol

from common.fairness import FAIRNESS, SHORT
from common.scratch import scratch
from common.session import PLAINTEXT_SIZE, Session
from common.sockets import close_cleanly, close_with_reset

BUFFER_SIZE: Final = PLAINTEXT_SIZE
"""Bytes that one ``read`` needs room for: with less a session takes a full buffer for its end."""
CIPHERTEXT_SIZE: Final = 32 * 1024
"""Bytes of TLS read at once: 1,200 key updates, 15 ms. More would make uploads hardly faster."""


class Wire(Protocol):
    """Bytes to and from a visitor; nothing blocks."""

    sock: socket.socket
    ended: OSError | str
    """Why nothing more can be read, once that is so."""

    def read(self, buffer: memoryview) -> int:
        """Read what there is into ``buffer``; 0 means nothing yet, or see :attr:`ended`."""

    def write(self, data: bytes | memoryview) -> bool:
        """Send ``data``; return whether the kernel has taken everything. What not, is kept.

        Raises:
            OSError: the connection has ended.
        """

    def flush(self) -> bool:
        """Send what is left; return whether the kernel has taken everything.

        Raises:
            OSError: the connection has ended.
        """

    def say_goodbye(self) -> None:
        """Say that no more will come; reading goes on. Never raises."""

    def close(self) -> None:
        """Close after what the kernel has. Never raises."""

    def abort(self) -> None:
        """Close with a RST. Never raises."""


class PlainWire:
    """A connection in plain text."""

    __slots__ = ("_unsent", "ended", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.ended: OSError | str = ""
        self.sock = sock
        self._unsent = b""

    def read(self, buffer: memoryview) -> int:
        """Read what there is into ``buffer``."""
        try:
            count = self.sock.recv_into(buffer, SHORT if FAIRNESS.short_turns else 0)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.ended = error
            return 0
        if not count:
            self.ended = "the visitor ended the connection"
        return count

    def write(self, data: bytes | memoryview) -> bool:
        """Send ``data``; return whether the kernel has taken everything."""
        if self._unsent:
            self._unsent += data
            return False
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._unsent = bytes(data[sent:])
            return False
        return True

    def flush(self) -> bool:
        """Send what is left; return whether the kernel has taken everything."""
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
        return not self._unsent

    def say_goodbye(self) -> None:
        """Say that no more will come."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close after what the kernel has."""
        close_cleanly(self.sock)

    def abort(self) -> None:
        """Close with a RST."""
        close_with_reset(self.sock)


class TlsWire(Session):
    """A connection whose TLS ends here; the handshake is done by the owner.

    Who is at its other end may be anybody, so little is read at once.
    """

    __slots__ = ()

    _ciphertext: ClassVar[memoryview] = scratch(CIPHERTEXT_SIZE)

    def close(self) -> None:
        """Close after what the kernel has."""
        close_cleanly(self.sock)

    def abort(self) -> None:
        """Close with a RST."""
        close_with_reset(self.sock)
