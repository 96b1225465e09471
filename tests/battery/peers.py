"""Sources and destinations that know every byte they must get, and say how a stream ended for them.

An end (FIN) before the last byte, or where the other side has aborted, is a failure whatever
happened on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterable
from typing import Final

from common.sockets import close_with_reset
from tests.battery.plans import (
    FIRST,
    MAGIC,
    OTHER,
    STAMP,
    Door,
    Fate,
    Plan,
    Side,
    Tally,
    Text,
    Wrong,
)

DEADLINE_S: Final = 60.0
PIECE: Final = 64 * 1024


class _Aborted(Exception):  # noqa: N818 - no error
    """An end breaks its stream off, as its plan says."""


class _End:
    """One end of a running stream."""

    def __init__(self, sock: socket.socket, side: Side, plan: Plan, heard: int = 0) -> None:
        self.sock, self.side, self.plan = sock, side, plan
        self.heard = heard
        self._said = 0
        self._was_reset = self._pipe_broke = False
        self._heard_some, self._heard_end = asyncio.Event(), asyncio.Event()
        self._abort = asyncio.Event()
        if plan.aborts == side and plan.after == 0:
            self._abort.set()

    async def run(self) -> Fate:
        """Follow the plan to the end of the stream; the socket is closed then."""
        fate = Fate.WHOLE
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._talk())
                tasks.create_task(self._hear())
                if self.plan.aborts == self.side:
                    tasks.create_task(self._break_off())
        except* (ConnectionError, TimeoutError, _Aborted):
            close_with_reset(self.sock)
            fate = Fate.RESET
        finally:
            self.sock.close()
        return Fate.RESET if self._pipe_broke else fate

    async def _talk(self) -> None:
        """Say all, and understand an error: the kernel tells of a RST only once.

        ECONNRESET: no FIN has come before the RST, so an end that is read now is not one. EPIPE: a
        FIN has come before it, or a reader was told already; what is read now says which.
        """
        try:
            await self._say()
        except BrokenPipeError:
            self._pipe_broke = True
        except ConnectionError:
            self._was_reset = True
            raise

    async def _break_off(self) -> None:
        await self._abort.wait()
        if self.side == "source":  # or the destination may never learn which stream it was
            await self._heard_some.wait()
        await asyncio.sleep(self.plan.pause_s)
        raise _Aborted

    def _reached(self, trigger: str, count: int) -> int:
        """Return how far to go now; an abort that is due is told."""
        plan = self.plan
        if plan.aborts != self.side or plan.trigger != trigger:
            return 1 << 62
        if count >= plan.after:
            self._abort.set()
        return plan.after

    async def _say(self) -> None:
        loop = asyncio.get_running_loop()
        plan, text = self.plan, Text(self.plan.number, self.side)
        size = plan.sizes[self.side]
        pauses = sorted(plan.pauses.get(self.side, {}).items(), reverse=True)
        if plan.waits == self.side == "destination":
            await self._heard_end.wait()
        while self._said < size:
            until = min(size, self._reached("says", self._said))
            if self._said >= until:
                await asyncio.Event().wait()  # for the abort
            if plan.waits == self.side == "source" and not self._heard_end.is_set():
                if self._said >= FIRST:
                    await self._heard_end.wait()
                else:
                    until = min(until, FIRST)
            if pauses and pauses[-1][0] <= self._said:
                await asyncio.sleep(pauses.pop()[1])
            if pauses:
                until = min(until, max(pauses[-1][0], self._said + 1))
            part = text.part(self._said, min(PIECE, until - self._said))
            await loop.sock_sendall(self.sock, part)
            await asyncio.sleep(0)  # a socket that takes all keeps the loop to itself
            self._said += len(part)
        self._reached("says", self._said)
        if plan.aborts == self.side:
            await asyncio.Event().wait()  # no FIN: the other side must never see an end
        with contextlib.suppress(OSError):  # reset meanwhile: _hear is told of it
            self.sock.shutdown(socket.SHUT_WR)

    async def _hear(self) -> None:
        loop = asyncio.get_running_loop()
        plan, other = self.plan, OTHER[self.side]
        text, size = Text(plan.number, other), plan.sizes[other]
        stalls = sorted(plan.stalls.get(self.side, {}).items(), reverse=True)
        while True:
            room = min(PIECE, self._reached("hears", self.heard) - self.heard)
            if room <= 0:
                await asyncio.Event().wait()  # for the abort
            if stalls and stalls[-1][0] <= self.heard:
                await asyncio.sleep(stalls.pop()[1])
            data = await loop.sock_recv(self.sock, room)
            await asyncio.sleep(0)  # to others; and _talk may have to tell of a RST
            if not data:
                break
            try:
                text.check(self.heard, data)
            except Wrong as error:
                raise Wrong(f"{self}: {error}") from None
            self.heard += len(data)
            self._heard_some.set()
            if self.heard > size:
                raise Wrong(f"{self}: {self.heard - size} bytes too many")
        if self._was_reset:
            raise ConnectionResetError
        if self.heard < size or plan.aborts == other:
            raise Wrong(f"{self}: an end after {self.heard:,} of {size:,} bytes: {plan}")
        self._heard_end.set()

    def __str__(self) -> str:
        return f"the {self.side} of stream {self.plan.number}"


class Peers:
    """All sources and destinations of a run; every plan goes through :meth:`play`.

    Args:
        deadline_s: for each stream.

    Attributes:
        tally: of all that has been played.
    """

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self.tally = Tally()
        self._deadline_s = deadline_s
        self._plans: dict[int, Plan] = {}
        self._fates: dict[int, asyncio.Future[tuple[Fate, int]]] = {}
        self._arrived: set[int] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._listening: list[socket.socket] = []

    def serve(self, listener: socket.socket, prefix: bytes) -> None:
        """Be the destinations behind ``listener``, until :meth:`close`."""
        asyncio.get_running_loop().add_reader(listener, self._accept, listener, prefix)
        self._listening.append(listener)

    async def play(
        self, door: Door, plan: Plan, *, spoiled: bool = False
    ) -> tuple[Fate, Fate | None]:
        """Run one stream to its end and judge it.

        Args:
            spoiled: something on the way breaks, so a RST is all right at either end.

        Returns:
            What the source saw, and what the destination saw, if the stream got there.

        Raises:
            Wrong: a byte, an end or a RST that must not be.
        """
        self._plans[plan.number] = plan
        there: asyncio.Future[tuple[Fate, int]] = asyncio.get_running_loop().create_future()
        self._fates[plan.number] = there
        source = None
        try:
            async with asyncio.timeout(self._deadline_s):
                try:
                    source = _End(await _connect(door), "source", plan)
                    # In a task of its own: a TaskGroup that failed would spoil our time-out.
                    here = await asyncio.create_task(source.run())
                except ConnectionError:
                    here = Fate.RESET
                due = Fate.RESET if plan.aborts else Fate.WHOLE
                if not spoiled and here is not due:
                    if there.done():
                        there.result()  # what was wrong at the destination came first
                    raise Wrong(
                        f"the source of stream {plan.number} at {door.name} was reset: {plan}"
                    )
                if here is Fate.WHOLE or not spoiled:
                    fate, heard = await there
                elif there.done():
                    fate, heard = there.result()
                else:  # it may never have got there; if it did, it is judged when it ends
                    return self._count(plan, source, here, None, 0)
        except TimeoutError:
            got = source.heard if source else 0
            ended = "ended" if there.done() else "not ended"
            raise Wrong(
                f"stream {plan.number} at {door.name} does not end within {self._deadline_s:g} s;"
                f" the source has heard {got:,}, the destination has {ended}: {plan}"
            ) from None
        if not spoiled and fate is not due:
            raise Wrong(f"the destination of stream {plan.number} at {door.name} was reset: {plan}")
        return self._count(plan, source, here, fate, heard)

    @property
    def arrived(self) -> int:
        """How many streams have reached a destination."""
        return len(self._arrived)

    async def close(self) -> None:
        """Stop serving, and do as :meth:`ended`."""
        for listener in self._listening:
            asyncio.get_running_loop().remove_reader(listener)
        await self.ended()

    async def ended(self) -> None:
        """Wait until every stream that has reached a destination has ended there and is judged."""
        if self._serving:
            done, late = await asyncio.wait(self._serving, timeout=self._deadline_s)
            for each in late:
                each.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            for each in done:
                each.result()
            if late:
                raise Wrong(f"{len(late)} destinations have not seen the end of their streams")

    def _count(
        self, plan: Plan, source: _End | None, here: Fate, there: Fate | None, heard: int
    ) -> tuple[Fate, Fate | None]:
        self.tally.streams += 1
        self.tally.right += (source.heard if source else 0) + heard
        self.tally.resets["source"] += here is Fate.RESET
        self.tally.resets["destination"] += there is Fate.RESET
        return here, there

    def _accept(self, listener: socket.socket, prefix: bytes) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:  # all that wait: one a turn of a busy loop is too few
                sock, _ = listener.accept()
                sock.setblocking(False)
                task = asyncio.create_task(self._serve(sock, prefix))
                self._serving.add(task)
                task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._serving.discard(task)  # what has failed is told by close()

    async def _serve(self, sock: socket.socket, prefix: bytes) -> None:
        loop = asyncio.get_running_loop()
        with sock:
            head = b""
            try:
                while len(head) < len(prefix) + FIRST:
                    part = await loop.sock_recv(sock, len(prefix) + FIRST - len(head))
                    if not part:
                        raise Wrong(f"an end after {len(head)} bytes, before the stream's number")
                    head += part
            except ConnectionError:
                return  # aborted so early that nobody can know which stream it was
            if not head.startswith(prefix):
                raise Wrong(f"this is not how a stream begins here: {head[:32]!r}")
            magic, number, *_ = STAMP.unpack(head[len(prefix) :])
            if magic != MAGIC or number not in self._plans:
                raise Wrong(f"no stream begins like this: {head[-FIRST:]!r}")
            if number in self._arrived:
                raise Wrong(f"stream {number} has come to two destinations")
            self._arrived.add(number)
            plan = self._plans[number]
            end = _End(sock, "destination", plan, FIRST)
            there = self._fates[number]
            try:
                fate = await end.run()
            except BaseException as error:
                if not there.done():
                    there.set_exception(error)
                    there.exception()  # seen here at the least
                raise
            if not there.done():  # its player may have given up
                there.set_result((fate, end.heard))


async def play_all(
    peers: Peers,
    jobs: Iterable[tuple[Door, Plan]],
    at_once: int,
    *,
    spoiled: bool = False,
) -> None:
    """Play every job, ``at_once`` of them at a time."""
    begin = time.monotonic()
    todo = iter(jobs)

    async def worker() -> None:
        for door, plan in todo:
            await peers.play(door, plan, spoiled=spoiled)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(worker())
    peers.tally.seconds += time.monotonic() - begin


async def _connect(door: Door) -> socket.socket:
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        await loop.sock_connect(sock, (door.address.host, door.address.port))
        if door.prefix:
            await loop.sock_sendall(sock, door.prefix)
    except BaseException:
        sock.close()
        raise
    return sock
