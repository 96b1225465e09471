"""What a client says to the destination: a head of 64 bytes whose first one is the command."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final

Address = tuple[str, int]
Figures = dict[str, float]

HEAD_SIZE: Final = 64
"""Bytes of the head, of a ping-pong message, and of a request and its reply."""

UPLOAD: Final = b"U"
"""Say how many bytes have come in all (eight, big-endian) after each ``BLOCK_SIZE`` of them."""
DOWNLOAD: Final = b"D"
"""Send until the client says another byte: where it ends its side, some peers end both."""
ENOUGH: Final = b"."
"""The byte that ends a download."""
ECHO: Final = b"E"
"""Send back whatever comes, the head too."""
REQUEST: Final = b"R"
"""Send back the head and wait for the end."""

BUFFER_SIZE: Final = 256 * 1024
"""Bytes sent at once: it stays in the cache, so the load costs as little as it can."""
BLOCK_SIZE: Final = 16 * BUFFER_SIZE
"""Bytes of an upload that are acknowledged together."""
STALLED_S: Final = 10
"""Seconds without progress after which a client or the destination gives up."""

COUNT: Final = struct.Struct(">Q")

# On TCP under Linux MSG_TRUNC drops what it receives without copying it (tcp(7)).
DISCARD: Final = socket.MSG_TRUNC if sys.platform.startswith("linux") else 0


def head(command: bytes) -> bytes:
    """Return the head that asks for ``command``."""
    return command.ljust(HEAD_SIZE, b".")


def tune(sock: socket.socket) -> None:
    """Make a socket send at once and give up after ``STALLED_S``; it stays a blocking one."""
    limit = struct.pack("ll", STALLED_S, 0)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def connect_to(address: Address, source: str = "") -> socket.socket:
    """Return a connection, from a source address if one is named."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    tune(sock)
    if source:
        sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        sock.bind((source, 0))
    sock.connect(address)
    return sock


def receive_exactly(sock: socket.socket, count: int) -> bytes:
    """Return ``count`` bytes, or what came before the end."""
    data = sock.recv(count)
    while 0 < len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            break
        data += more
    return data


_BIND_ADDRESS_NO_PORT: Final = 24  # IP_BIND_ADDRESS_NO_PORT (ip(7)); named in Python from 3.12 on
