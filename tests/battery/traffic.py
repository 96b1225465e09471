"""Streams whose every byte is known: what arrives is right and whole, or the abort is visible.

Each stream says its number and its sizes first. The bytes that follow depend on the number, the
direction and the offset, so bytes of another stream, or of another place, are seen at once.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

from common.addresses import HostPort
from tests.programs.ends import connected

HEAD = struct.Struct("!QQQ")
"""Number of the stream, bytes from the source, bytes from the destination."""
ENDLESS = 1 << 50
"""More than anybody waits for: such a stream can only be aborted."""
PERIOD = 65_521
"""Bytes after which a direction repeats itself: a prime, so that no buffer's size hides a shift."""
PATIENCE_S = 60.0
"""Longer than any program is stopped for; a stream that takes longer hangs."""


@lru_cache(maxsize=1024)
def pattern(number: int, way: str) -> bytes:
    """Return two periods of what stream ``number`` carries ``up`` or ``down``."""
    return random.Random(f"{number} {way}").randbytes(PERIOD) * 2


class Ledger:
    """What became of each direction, as its receiver saw it."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()
        """How many directions ended ``whole`` and ``aborted``, and how many were ``refused``."""
        self.problems: list[str] = []
        self.moved = 0
        """Bytes that arrived."""
        self.endless: dict[tuple[int, str], int] = {}
        """Bytes that arrived of each direction without end, while it goes on."""
        self._lock = threading.Lock()

    def note(self, end: str) -> None:
        with self._lock:
            self.ends[end] += 1

    def complain(self, problem: str) -> None:
        with self._lock:
            self.problems.append(problem)

    def check(self) -> None:
        """Fail if anything was wrong, and say what."""
        assert not self.problems, f"{len(self.problems)} problems: {'; '.join(self.problems[:5])}"

    def serve(self, sock: socket.socket) -> None:
        """Be the destination of one stream."""
        sock.settimeout(PATIENCE_S)
        head = b""
        try:
            while len(head) < HEAD.size:
                part = sock.recv(HEAD.size - len(head))
                if not part:
                    self.complain(f"destination: an end after {len(head)} bytes of a head")
                    return
                head += part
        except ConnectionError:
            return
        number, up, down = HEAD.unpack(head)
        self._both(sock, number, ("down", down), ("up", up))

    def visit(self, entrance: HostPort, number: int, up: int, down: int) -> bool:
        """Be the source of one stream; return whether all came back."""
        try:
            with connected(entrance, PATIENCE_S) as sock:
                sock.sendall(HEAD.pack(number, up, down))
                return self._both(sock, number, ("up", up), ("down", down))
        except ConnectionRefusedError:
            self.note("refused")
            return False
        except ConnectionError:
            self.note("aborted")
            return False
        except TimeoutError:
            self.complain(f"stream {number}: no connection within {PATIENCE_S:g} s")
            return False

    def _both(
        self, sock: socket.socket, number: int, said: tuple[str, int], heard: tuple[str, int]
    ) -> bool:
        reset = threading.Event()
        speaker = threading.Thread(target=self._say, args=(sock, number, *said, reset), daemon=True)
        speaker.start()
        end = self._hear(sock, number, *heard)
        speaker.join(PATIENCE_S)
        if speaker.is_alive():
            self.complain(f"stream {number} {said[0]}: writing hangs")
        self.endless.pop((number, heard[0]), None)
        if end.startswith("an end") and reset.is_set():
            end = "aborted"  # the kernel tells of a RST once, and it was the speaker who heard it
        if end in ("whole", "aborted"):
            self.note(end)
        else:
            self.complain(f"stream {number} {heard[0]}: {end}")
        return end == "whole"

    def _say(
        self, sock: socket.socket, number: int, way: str, size: int, reset: threading.Event
    ) -> None:
        data = memoryview(pattern(number, way))
        done = 0
        try:
            while done < size:
                start = done % PERIOD
                done += sock.send(data[start : start + min(PERIOD, size - done)])
            sock.shutdown(socket.SHUT_WR)
        except TimeoutError:
            self.complain(f"stream {number} {way}: writing hangs after {done} bytes")
        except ConnectionResetError:
            reset.set()
        except OSError:  # the listener has been told
            pass

    def _hear(self, sock: socket.socket, number: int, way: str, size: int) -> str:
        """Return ``whole``, ``aborted``, or what is wrong."""
        data, done = pattern(number, way), 0
        try:
            while part := sock.recv(PERIOD):
                start = done % PERIOD
                if part != data[start : start + len(part)]:
                    return f"wrong bytes after {done}"
                done += len(part)
                self.moved += len(part)  # a figure, and no sum to rely on
                if size == ENDLESS:
                    self.endless[number, way] = done
        except TimeoutError:
            return f"silent after {done} of {size} bytes"
        except ConnectionError:
            return "aborted"
        return "whole" if done == size else f"an end after {done} of {size} bytes"


class Load:
    """Workers that have one stream after the other, of sizes that ``sizes`` chooses for each.

    They share the entrances evenly.
    """

    def __init__(
        self,
        ledger: Ledger,
        entrances: list[HostPort],
        workers: int,
        sizes: Callable[[int], tuple[int, int]],
    ) -> None:
        self._ledger, self._entrances, self._sizes = ledger, entrances, sizes
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.begun = 0
        self._threads = [
            threading.Thread(target=self._work, args=(each,), daemon=True)
            for each in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Begin no further stream, and wait for the end of those there are."""
        self._over.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE_S)
            if thread.is_alive():
                self._ledger.complain("a stream does not end")

    def _work(self, worker: int) -> None:
        entrance = self._entrances[worker // 2 % len(self._entrances)]
        while not self._over.is_set():
            with self._lock:
                self.begun += 1
                number = self.begun
            if not self._ledger.visit(entrance, number, *self._sizes(worker)):
                self._over.wait(0.05)  # nobody calls again at once
