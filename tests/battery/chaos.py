"""A TCP proxy that makes a path fail: in time, in pieces, in bytes, or for good.

It runs in a thread with a loop of its own; every method may be called from any other thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any

from common.addresses import HostPort
from common.sockets import close_with_reset

PIECE = 64 * 1024


class End(Enum):
    """How a connection is cut."""

    FIN = "FIN"
    RST = "RST"


@dataclass
class Weather:
    """What one direction of a path does. May be changed while connections use it.

    Attributes:
        delay_s: every byte arrives this much later; order and throughput stay.
        jitter_s: up to this much more for each piece, at random; order stays.
        rate: bytes a second; 0 is as fast as it goes.
        pieces: sizes in bytes that what is sent is sliced into, in turn; empty leaves it as it is.
        flips: offsets from the connection's beginning; one bit of each of these bytes is inverted.
        cut_at: offset before which the connection is cut (bytes up to it are delivered), or None.
        cut_by: how.
        gather_s: what comes within this time goes on as one piece.
        held: nothing passes, and nothing is lost: as when all packets are dropped for a while.
            Then all of it goes on as one piece.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    rate: float = 0.0
    pieces: tuple[int, ...] = ()
    flips: frozenset[int] = frozenset()
    cut_at: int | None = None
    cut_by: End = End.RST
    gather_s: float = 0.0
    held: bool = False


Choose = Callable[[int], tuple[Weather, Weather]]
"""By the number of a connection (from 0): the weather up (from who connected), and down."""


@dataclass
class Seen:
    """What passed on one connection, in bytes.

    Attributes:
        struck: whether it was cut at its offset, or bits of it were inverted.
        over: whether it has ended.
    """

    up: int = 0
    down: int = 0
    struck: bool = False
    over: bool = False


class ChaosProxy:
    """Listens on loopback and leads each connection to ``target``.

    Attributes:
        address: where it listens.
        up, down: the weather of all connections, unless ``choose`` gives each its own.
        seen: one entry for each connection there ever was.
        choose: may be replaced; counts for connections to come.
        target: may be replaced; counts for connections to come.
    """

    def __init__(
        self,
        target: HostPort,
        up: Weather | None = None,
        down: Weather | None = None,
        choose: Choose | None = None,
        seed: int = 1,
    ) -> None:
        self.target = target
        self.up, self.down = up or Weather(), down or Weather()
        self.choose = choose or (lambda _: (self.up, self.down))
        self.seen: list[Seen] = []
        self._random = random.Random(seed)
        self._live: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.address = HostPort(*self._listener.getsockname()[:2])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._do(self._begin())

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return len(self._live)

    def cut(self, end: End) -> int:
        """Cut every connection, both ways, and return how many there were."""

        async def cut() -> int:
            live = list(self._live)
            for each in live:
                each.cut(end)
            return len(live)

        count: int = self._do(cut())
        return count

    def close(self) -> None:
        """End everything. Connections that are open are reset."""

        async def close() -> None:
            self._loop.remove_reader(self._listener)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._do(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._listener.close()

    def __enter__(self) -> ChaosProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _begin(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        seen = Seen()
        up, down = self.choose(len(self.seen))
        self.seen.append(seen)

        def ended(_: object) -> None:
            seen.over = True
            sock.close()

        self._spawn(self._serve(sock, seen, up, down)).add_done_callback(ended)

    async def _serve(self, near: socket.socket, seen: Seen, up: Weather, down: Weather) -> None:
        far = socket.socket(socket.AF_INET6 if ":" in self.target.host else socket.AF_INET)
        far.setblocking(False)
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(near, far)
        self._live.add(connection)
        try:
            await self._loop.sock_connect(far, (self.target.host, self.target.port))
            ways = [
                self._loop.create_task(self._carry(near, far, up, seen, "up", connection)),
                self._loop.create_task(self._carry(far, near, down, seen, "down", connection)),
            ]
            try:
                await asyncio.gather(*ways)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            connection.end = End.RST
        except asyncio.CancelledError:
            connection.end = connection.end or End.RST
            raise
        finally:
            connection.close()
            self._live.discard(connection)

    async def _carry(
        self,
        source: socket.socket,
        sink: socket.socket,
        weather: Weather,
        seen: Seen,
        way: str,
        connection: _Connection,
    ) -> None:
        """Read into a queue and deliver from it, so that a delay does not slow the flow."""
        queue: asyncio.Queue[tuple[float, bytes | OSError]] = asyncio.Queue(maxsize=256)

        async def read() -> None:
            data: bytes | OSError = b"begin"
            while isinstance(data, bytes) and data:
                try:
                    data = await self._loop.sock_recv(source, PIECE)
                except OSError as error:
                    data = error
                late = weather.delay_s + self._random.uniform(0, weather.jitter_s)
                await queue.put((self._loop.time() + late, data))

        reader = self._loop.create_task(read())
        done = 0
        following: list[tuple[float, bytes | OSError]] = []
        try:
            while True:
                due, data = following.pop() if following else await queue.get()
                await self._until(due)
                if gather := weather.held or weather.gather_s > 0:
                    await asyncio.sleep(weather.gather_s)
                while weather.held:  # noqa: ASYNC110 - set from other threads
                    await asyncio.sleep(0.005)
                if gather and data and isinstance(data, bytes):
                    parts = [data]
                    while not following and not queue.empty():
                        late, more = queue.get_nowait()
                        if more and isinstance(more, bytes):
                            parts.append(more)
                        else:
                            following.append((late, more))
                    data = b"".join(parts)
                if isinstance(data, OSError):
                    raise data
                if not data:
                    with contextlib.suppress(OSError):
                        sink.shutdown(socket.SHUT_WR)
                    return
                for part in _sliced(data, weather.pieces, done):
                    if weather.cut_at is not None and done + len(part) > weather.cut_at:
                        await self._loop.sock_sendall(sink, part[: weather.cut_at - done])
                        seen.struck = True
                        connection.cut(weather.cut_by)
                        await asyncio.Event().wait()
                    changed = _flipped(part, done, weather.flips)
                    seen.struck = seen.struck or changed is not part
                    await self._loop.sock_sendall(sink, changed)
                    done += len(part)
                    setattr(seen, way, done)
                    if weather.rate:
                        await asyncio.sleep(len(part) / weather.rate)
                    elif weather.pieces:
                        await asyncio.sleep(0)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _until(self, due: float) -> None:
        if (left := due - self._loop.time()) > 0:
            await asyncio.sleep(left)


class _Connection:
    """The two sockets of a connection, and how they end."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._sockets = (near, far)
        self._task = asyncio.current_task()
        self.end: End | None = None

    def cut(self, end: End) -> None:
        self.end = end
        assert self._task is not None
        self._task.cancel()

    def close(self) -> None:
        for sock in self._sockets:
            if self.end is End.RST:
                close_with_reset(sock)
                continue
            with contextlib.suppress(OSError):  # what is unread would make a RST of the FIN
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(PIECE):
                    pass
            sock.close()


def _sliced(data: bytes, pieces: tuple[int, ...], offset: int) -> list[bytes]:
    if not pieces:
        return [data]
    parts, start, number = [], 0, offset
    while start < len(data):
        size = pieces[number % len(pieces)]
        parts.append(data[start : start + size])
        start += size
        number += 1
    return parts


def _flipped(data: bytes, offset: int, flips: frozenset[int]) -> bytes:
    hit = [each - offset for each in flips if offset <= each < offset + len(data)]
    if not hit:
        return data
    changed = bytearray(data)
    for each in hit:
        changed[each] ^= 1 << (each % 8)
    return bytes(changed)
