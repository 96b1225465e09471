"""Tell the service manager how a program is doing, as sd_notify(3) documents it.

Without ``NOTIFY_SOCKET`` in the environment everything here does nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """A datagram socket to the service manager; :meth:`close` it at the end.

    Args:
        environ: ``NOTIFY_SOCKET`` is the path of a socket, or ``@name`` for an abstract one;
            ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` are those of sd_watchdog_enabled(3).
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if self._address.startswith(("/", "\0")):  # others (vsock) are not for us
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        self._status = ""
        self.watchdog_s = _watchdog_s(environ) if self._socket else None
        """Seconds within which the manager wants a sign of life, or ``None``."""

    def ready(self) -> bool:
        """The program has started, or has finished reloading."""
        return self._send(f"READY=1\nMAINPID={os.getpid()}")

    def status(self, text: str) -> bool:
        """One line for people (``systemctl status``); a repetition is not sent."""
        line = " ".join(text.split())
        if line == self._status:
            return False
        self._status = line
        return self._send(f"STATUS={line}")

    def stopping(self) -> bool:
        """The program has begun to shut down."""
        return self._send("STOPPING=1")

    def reloading(self) -> bool:
        """The program reads its configuration again; :meth:`ready` follows."""
        return self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def watchdog(self) -> bool:
        """The program is alive."""
        return self._send("WATCHDOG=1")

    def close(self) -> None:
        """Close the socket; everything sent afterwards goes nowhere."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def _send(self, state: str) -> bool:
        """Whether the datagram was handed over. A manager that is gone or slow is no failure."""
        if self._socket is None:
            return False
        try:
            self._socket.sendto(state.encode("utf-8", "backslashreplace"), self._address)
        except OSError:
            return False
        return True


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    digits = environ.get("WATCHDOG_USEC", "")
    if not (digits.isascii() and digits.isdecimal() and 0 < int(digits) < 2**63):
        return None
    return int(digits) / 1_000_000
