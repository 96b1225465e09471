"""What somebody on the way sees, and what somebody with the machine sees: wires and memory."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from common.addresses import HostPort
from tests.programs.harness import Program


class Recorder:
    """A TCP proxy that keeps every byte that goes through it."""

    def __init__(self, target: HostPort) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = HostPort(*self._listener.getsockname()[:2])
        self.connections: list[tuple[bytearray, bytearray]] = []
        """Of each connection: what the client said, and what the server said."""
        self._sockets: list[socket.socket] = []
        self._lock, self._closed = threading.Lock(), False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def size(self) -> int:
        return sum(len(way) for pair in self.connections for way in pair)

    def find(self, needles: Iterable[bytes]) -> set[bytes]:
        """Return the needles that went over the wire."""
        ways = [bytes(way) for pair in self.connections for way in pair]
        return {needle for needle in needles if any(needle in way for way in ways)}

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((self._target.host, self._target.port), 10)
            except OSError:
                client.close()
                continue
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(None)
            with self._lock:
                self._sockets += [client, server]
                if self._closed:
                    client.close()
                    server.close()
                    return
            pair = bytearray(), bytearray()
            self.connections.append(pair)
            for args in ((client, server, pair[0]), (server, client, pair[1])):
                threading.Thread(target=_move, args=args, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            self._closed = True
            for sock in self._sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _move(source: socket.socket, sink: socket.socket, seen: bytearray) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 18):
            seen += data
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


OVERLAP = 4096
_READABLE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r")


def find_in_memory(program: Program, needles: Iterable[bytes]) -> tuple[set[bytes], int]:
    """Return the needles that lie in a process's memory, and how many bytes were searched.

    Every readable mapping is read, file-backed and shared ones too; what the kernel does not let
    anybody read (``[vvar]``) is left out.
    """
    wanted, found, searched = list(needles), set[bytes](), 0
    maps = Path(f"/proc/{program.pid}/maps").read_text()
    with open(f"/proc/{program.pid}/mem", "rb", buffering=0) as memory:
        for start, end in _READABLE.findall(maps):
            at, stop, tail = int(start, 16), int(end, 16), b""
            while at < stop:
                try:
                    memory.seek(at)
                    piece = memory.read(min(stop - at, 1 << 24))
                except (OSError, OverflowError):
                    break
                if not piece:
                    break
                searched += len(piece)
                at += len(piece)
                block = tail + piece
                found.update(needle for needle in wanted if needle in block)
                tail = block[-OVERLAP:]
    return found, searched
