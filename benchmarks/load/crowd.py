"""A crowd of idle connections: ``python -m benchmarks.load.crowd HOST PORT [HOST PORT]...``.

For each number that it reads it opens connections until it has so many, each of which has sent and
received 64 bytes, says ``open <number>``, and keeps them until its input ends.
"""

from __future__ import annotations

import selectors
import socket
import sys
from collections.abc import Sequence
from typing import Final

from benchmarks.load.talk import HEAD_SIZE, REQUEST, Address, connect_to, head, receive_exactly

AT_ONCE: Final = 32
"""Connections that wait for their reply at the same time."""
PER_SOURCE: Final = 400
"""Connections from one source address: servers that are fair among sources bound them."""
STALLED_S: Final = 20.0


def fill(addresses: Sequence[Address], crowd: list[socket.socket], count: int) -> None:
    """Open connections, to each address in turn, until there are ``count``.

    Raises:
        SystemExit: one was refused, or none was answered for ``STALLED_S``.
    """
    data = head(REQUEST)
    with selectors.DefaultSelector() as waiting:
        while len(crowd) < count or waiting.get_map():
            while len(crowd) < count and len(waiting.get_map()) < AT_ONCE:
                source = f"127.0.1.{1 + len(crowd) // PER_SOURCE}"
                try:
                    sock = connect_to(addresses[len(crowd) % len(addresses)], source)
                    sock.send(data)
                except OSError as error:
                    raise SystemExit(f"connection {len(crowd) + 1}: {error}") from None
                crowd.append(sock)
                waiting.register(sock, selectors.EVENT_READ)
            ready = waiting.select(STALLED_S)
            if not ready:
                raise SystemExit(f"{len(crowd)} connections: no reply within {STALLED_S:g} s")
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                waiting.unregister(key.fileobj)
                _check(key.fileobj, data, len(crowd))


def _check(sock: socket.socket, data: bytes, number: int) -> None:
    try:
        reply = receive_exactly(sock, HEAD_SIZE)
    except OSError as error:
        raise SystemExit(f"at {number} connections: {error}") from None
    if reply != data:
        raise SystemExit(f"at {number} connections one was closed instead of answered")


def main() -> None:
    """Do what the input says."""
    addresses = list(zip(sys.argv[1::2], map(int, sys.argv[2::2]), strict=True))
    crowd: list[socket.socket] = []
    for line in sys.stdin:
        fill(addresses, crowd, int(line))
        print(f"open {len(crowd)}", flush=True)


if __name__ == "__main__":
    main()
