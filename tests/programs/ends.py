"""The ends of streams in the hands of a test: sources, destinations, and what goes between them."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TypeVar

from common.addresses import HostPort
from tests.programs.harness import DEADLINE_S

T = TypeVar("T")


class TcpServer:
    """Serves each connection with ``handle(sock)`` in a thread; closes the socket after it."""

    def __init__(self, handle: Callable[[socket.socket], None], host: str = "127.0.0.1") -> None:
        self._handle = handle
        self._listener = socket.create_server((host, 0), backlog=1024)
        self.address = HostPort(*self._listener.getsockname()[:2])
        self.accepted = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            self._handle(sock)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def __enter__(self) -> TcpServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def echo(sock: socket.socket) -> None:
    """Send back whatever comes, until the other side has said all."""
    while data := sock.recv(65536):
        sock.sendall(data)


def receive_all(sock: socket.socket) -> bytes:
    """Return everything until the end; a RST raises ``ConnectionResetError``."""
    parts = []
    while data := sock.recv(1 << 20):
        parts.append(data)
    return b"".join(parts)


@contextmanager
def connected(address: HostPort, timeout_s: float = DEADLINE_S) -> Iterator[socket.socket]:
    """Connect to ``address``; every operation has a deadline."""
    with socket.create_connection((address.host, address.port), timeout_s) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


class Destination:
    """A listening socket whose connections the test takes itself, one by one."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=1024)
        self._listener.settimeout(DEADLINE_S)
        self.address = HostPort(*self._listener.getsockname()[:2])

    def accept(self) -> socket.socket:
        """Return the next connection; every operation on it has a deadline."""
        sock, _ = self._listener.accept()
        sock.settimeout(DEADLINE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    @contextmanager
    def stream(self, entrance: HostPort) -> Iterator[tuple[socket.socket, socket.socket]]:
        """Yield both ends of a new stream: the source's, and the destination's."""
        with connected(entrance) as source, self.accept() as destination:
            yield source, destination

    def __enter__(self) -> Destination:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()


def upload(sock: socket.socket, size: int) -> str:
    """Send ``size`` bytes that do not repeat, and return their SHA-256. Ends nothing."""
    digest = hashlib.sha256()
    block = bytearray(os.urandom(256 * 1024))
    for number, start in enumerate(range(0, size, len(block))):
        block[:8] = number.to_bytes(8, "big")
        part = memoryview(block)[: size - start]
        digest.update(part)
        sock.sendall(part)
    return digest.hexdigest()


def download(sock: socket.socket, size: int | None = None) -> str:
    """Receive ``size`` bytes, or all until the end, and return their SHA-256."""
    digest = hashlib.sha256()
    left = sys.maxsize if size is None else size
    while left:
        data = sock.recv(min(left, 1 << 20))
        if not data:
            assert size is None, f"ended {left} bytes early"
            break
        digest.update(data)
        left -= len(data)
    return digest.hexdigest()


def receive_reset(sock: socket.socket) -> int:
    """Read until the RST and return how many bytes came before it; a clean end is a failure."""
    count = 0
    try:
        while data := sock.recv(1 << 20):
            count += len(data)
    except ConnectionResetError:
        return count
    raise AssertionError(f"a clean end after {count} bytes, where a RST was due")


def be_refused(address: HostPort, source_ip: str = "127.0.0.1") -> HostPort:
    """Connect, be reset without a byte, and return the address that it came from."""
    with socket.socket() as sock:
        sock.settimeout(DEADLINE_S)
        sock.bind((source_ip, 0))
        source = HostPort(*sock.getsockname())
        try:
            sock.connect((address.host, address.port))
        except ConnectionResetError:  # so soon that it is the answer to connect()
            return source
        assert receive_reset(sock) == 0
        return source


def free_port() -> int:
    """Return a port that nobody listens on, for a program that must come back on the same one."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def together(*calls: Callable[[], T]) -> list[T]:
    """Run the calls at once, each in a thread, and return their results in order."""
    with ThreadPoolExecutor(len(calls)) as threads:
        return [each.result() for each in [threads.submit(call) for call in calls]]
