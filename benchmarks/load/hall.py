"""A destination for a crowd: ``python -m benchmarks.load.hall`` answers each head and waits.

One process and one loop, whatever the number of connections.
"""

from __future__ import annotations

import select
import socket
from contextlib import suppress

from benchmarks.load.talk import HEAD_SIZE


def main() -> None:
    """Say where it listens, and serve until it is killed."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setblocking(False)
    host, port = listener.getsockname()
    print(f"hall ready {host}:{port}", flush=True)
    guests: dict[int, socket.socket] = {}
    with select.epoll() as poll:
        poll.register(listener, select.EPOLLIN)
        while True:
            for number, _ in poll.poll():
                if number == listener.fileno():
                    with suppress(BlockingIOError):
                        while True:
                            guest, _ = listener.accept()
                            guests[guest.fileno()] = guest
                            poll.register(guest, select.EPOLLIN)
                elif not _answer(guests[number]):
                    poll.unregister(number)
                    guests.pop(number).close()


def _answer(guest: socket.socket) -> bool:
    """Send back what has come; return whether it goes on."""
    try:
        data = guest.recv(HEAD_SIZE)
        guest.sendall(data)
    except OSError:
        return False
    return bool(data)


if __name__ == "__main__":
    main()
