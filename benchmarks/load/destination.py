"""The destination: ``python -m benchmarks.load.destination`` serves until it is killed.

Several processes accept from one socket and serve one connection each, from its begin to its end:
no loop, no threads, nothing that could be slower than what is measured.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from typing import Final

from benchmarks.load.talk import (
    BLOCK_SIZE,
    BUFFER_SIZE,
    COUNT,
    DISCARD,
    DOWNLOAD,
    ECHO,
    HEAD_SIZE,
    REQUEST,
    UPLOAD,
    receive_exactly,
    tune,
)

PROCESSES: Final = 16
"""Connections served at once; more than any workload opens."""

_buffer: Final = bytearray(1024 * 1024)


def serve(sock: socket.socket) -> None:
    """Do what the client's head asks for."""
    head = receive_exactly(sock, HEAD_SIZE)
    command = head[:1]
    if command == REQUEST:
        sock.send(head)
        sock.recv(1)
    elif command == ECHO:
        sock.send(head)
        while data := sock.recv(HEAD_SIZE):
            sock.send(data)
    elif command == UPLOAD:
        total = said = 0
        while count := sock.recv_into(_buffer, 0, DISCARD):
            total += count
            if total - said >= BLOCK_SIZE:
                said = total - total % BLOCK_SIZE
                sock.send(COUNT.pack(said))
    elif command == DOWNLOAD:
        _send_until_end(sock)


def _send_until_end(sock: socket.socket) -> None:
    data = os.urandom(BUFFER_SIZE)
    while True:
        sock.sendall(data)
        with suppress(BlockingIOError):
            sock.recv(1, socket.MSG_DONTWAIT)
            return


def _work(listener: socket.socket) -> None:
    while True:
        with suppress(OSError):
            sock, _ = listener.accept()
            with sock:
                tune(sock)
                serve(sock)


def main() -> None:
    """Say where the destination listens, and serve."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    for _ in range(PROCESSES):
        if os.fork() == 0:
            _work(listener)
    host, port = listener.getsockname()
    print(f"destination ready {host}:{port}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
