"""Moves bytes from one raw socket to another: the kernel does it (splice), or this process (copy).

Both directions of a joint are independent :class:`Forwarder` objects, of one of two kinds with the
same behaviour (one set of tests runs both):

* ``SpliceForwarder``: socket -> pipe -> socket with splice(2); no byte enters this process. While
  only small messages come they are copied instead: two plain calls cost less than two splices
  (-7 % round trip for 64 bytes), and a stream at full speed is spliced from its second read on.
* ``CopyForwarder``: ``recv_into`` and ``send``, for systems without splice.

Invariants:

* A pipe (or a copy of the rest) belongs to a forwarder only while bytes are in it. An idle pair
  costs its two sockets and nothing else.
* While bytes are held the source is not read: only one of "reading" and "waiting to write" is ever
  registered with the loop.
* An end (FIN) is passed on after everything before it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Final, Literal, Protocol

from common.errors import SettingError
from common.fairness import FAIRNESS, SHORT, SMALL_MESSAGE, Share
from common.pipes import PIPE_SIZE, Pipes, can_splice
from common.scratch import scratch
from common.sockets import check_soon, was_reset

ROUNDS: Final = 4
"""Times a busy source is read in a row before the loop turns to others."""

SMALL: Final = 64 * 1024
"""A read of fewer bytes has most likely emptied the socket; asking again would cost a call."""
RETRY_S: Final = 0.1
"""Seconds until a direction that got no pipe asks again."""

_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK if hasattr(os, "splice") else 0


OnEnd = Callable[[OSError | None], None]
"""Called with ``None`` after an end was passed on, with the error after one."""


class Counts(Protocol):
    """What forwarders count."""

    splice_calls: int
    bytes_spliced: int
    bytes_copied: int


class Forwarder:
    """One direction of a joint; the two kinds below say how bytes move.

    Args:
        source: read from; non-blocking, owned by the joint.
        sink: written to; non-blocking, owned by the joint.
        share: of the loop; one for both ways.
        on_end: called once.
    """

    __slots__ = ("_in", "_loop", "_on_end", "_out", "_share", "_sink", "_source", "ended", "moved")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: socket.socket,
        sink: socket.socket,
        share: Share,
        on_end: OnEnd,
    ) -> None:
        self.moved = 0
        """Bytes moved so far."""
        self.ended = False
        self._loop = loop
        self._in, self._out = source.fileno(), sink.fileno()
        self._source, self._sink = source, sink
        self._share = share
        self._on_end = on_end

    @property
    def blocked(self) -> bool:
        """Whether bytes are held because the sink does not take them."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin to forward."""
        self._loop.add_reader(self._in, self._on_readable)

    def stop(self) -> None:
        """Stop at once; ``on_end`` is not called any more. May be called twice."""
        if not self.ended:
            self.ended = True
            self._loop.remove_reader(self._in)
            self._loop.remove_writer(self._out)
            self._drop()

    def _drop(self) -> None:
        """Let go of what is held."""

    def _on_readable(self) -> None:
        raise NotImplementedError

    def _on_writable(self) -> None:
        raise NotImplementedError

    def _recheck(self) -> None:
        """Read on if the connection was reset behind our back; see ``common.sockets``."""
        if not self.ended and not self.blocked and was_reset(self._source):
            self._on_readable()
            self._loop.call_soon(self._recheck)  # until all is read

    def _block(self) -> None:
        self._loop.remove_reader(self._in)
        self._loop.add_writer(self._out, self._on_writable)

    def _unblock(self) -> None:
        self._loop.remove_writer(self._out)
        self._loop.add_reader(self._in, self._on_readable)

    def _finish(self) -> None:
        """Pass the end on."""
        self.stop()
        try:
            self._sink.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._on_end(error)
            return
        self._on_end(None)

    def _fail(self, error: OSError) -> None:
        self.stop()
        self._on_end(error)


class SpliceForwarder(Forwarder):
    """Moves bytes through a pipe without looking at them."""

    __slots__ = ("_calm", "_counts", "_held", "_pipe", "_pipes", "_rest")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: socket.socket,
        sink: socket.socket,
        share: Share,
        on_end: OnEnd,
        pipes: Pipes,
        counts: Counts,
    ) -> None:
        super().__init__(loop, source, sink, share, on_end)
        self._pipes = pipes
        self._counts = counts
        self._pipe: tuple[int, int] | None = None
        self._held = 0
        self._calm = True  # the last read was a small one
        self._rest = b""  # of a copied message; what is held otherwise is in the pipe

    @property
    def blocked(self) -> bool:
        """Whether bytes are held because the sink does not take them."""
        return self._held > 0

    def _drop(self) -> None:
        if self._pipe is not None:
            self._pipes.discard(self._pipe)
            self._pipe = None
        self._held = 0
        self._rest = b""

    def _on_readable(self) -> None:
        if self._calm and not self._copy():
            return
        splice = os.splice
        source, sink = self._in, self._out
        try:
            pipe = self._pipes.take()
        except OSError:  # no descriptor is left; the bytes wait in the socket
            self._loop.remove_reader(source)
            self._loop.call_later(RETRY_S, self._retry)
            return
        moved = calls = left = 0
        short = FAIRNESS.short_turns > 0
        size = SHORT if short else PIPE_SIZE
        try:
            for _ in range(1 if short else ROUNDS):
                try:
                    count = splice(source, pipe[1], size, flags=_FLAGS)
                except BlockingIOError:
                    break
                if not count:
                    self._pipes.give_back(pipe)
                    self._count(moved, calls)
                    self._finish()
                    return
                calls += 1
                left = count
                try:
                    while left:
                        left -= splice(pipe[0], sink, left, flags=_FLAGS)
                except BlockingIOError:
                    break
                finally:
                    moved += count - left
                if count < SMALL:  # most likely all there was; if not, the loop calls again
                    break
        except OSError as error:
            self._count(moved, calls)
            if left:
                self._pipes.discard(pipe)
            else:
                self._pipes.give_back(pipe)
            self._fail(error)
            return
        self._count(moved, calls)
        self._share.took(moved)
        self._calm = moved < SMALL_MESSAGE
        if left:
            self._pipe, self._held = pipe, left
            self._block()
        else:
            self._pipes.give_back(pipe)
            check_soon(self._loop, self._recheck)

    def _copy(self) -> bool:
        """Move one small message; return whether there may be more at once."""
        try:
            count = self._source.recv_into(_message)
            if not count:
                self._finish()
                return False
            data = _message[:count]
            try:
                sent = self._sink.send(data)
            except BlockingIOError:
                sent = 0
        except BlockingIOError:
            return False
        except OSError as error:
            self._fail(error)
            return False
        self.moved += sent
        self._counts.bytes_copied += sent
        if sent < count:
            self._rest = bytes(data[sent:])
            self._held = count - sent
            self._block()
            return False
        self._calm = count < SMALL_MESSAGE
        if self._calm:
            self._share.took(count)
            check_soon(self._loop, self._recheck)
        return not self._calm

    def _retry(self) -> None:
        if not self.ended:
            self._loop.add_reader(self._in, self._on_readable)

    def _on_writable(self) -> None:
        if self._rest:
            self._send_rest()
            return
        pipe = self._pipe
        assert pipe is not None  # noqa: S101 - registered only while a pipe is held
        before = self._held
        try:
            while self._held:
                self._held -= os.splice(pipe[0], self._out, self._held, flags=_FLAGS)
        except BlockingIOError:
            self._count(before - self._held, 0)
            return
        except OSError as error:
            self._fail(error)
            return
        self._count(before, 0)
        self._pipe = None
        self._pipes.give_back(pipe)
        self._unblock()

    def _send_rest(self) -> None:
        try:
            sent = self._sink.send(self._rest)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error)
            return
        self.moved += sent
        self._counts.bytes_copied += sent
        self._rest = self._rest[sent:]
        self._held = len(self._rest)
        if not self._held:
            self._unblock()

    def _count(self, moved: int, calls: int) -> None:
        self.moved += moved
        self._counts.bytes_spliced += moved
        self._counts.splice_calls += calls


_message: Final = scratch(SMALL_MESSAGE)
_chunk: Final = scratch(PIPE_SIZE)  # one loop per process: all forwarders share it


class CopyForwarder(Forwarder):
    """Moves bytes through this process, where the kernel cannot."""

    __slots__ = ("_counts", "_rest")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: socket.socket,
        sink: socket.socket,
        share: Share,
        on_end: OnEnd,
        counts: Counts,
    ) -> None:
        super().__init__(loop, source, sink, share, on_end)
        self._counts = counts
        self._rest = b""

    @property
    def blocked(self) -> bool:
        """Whether bytes are kept because the sink does not take them."""
        return bool(self._rest)

    def _drop(self) -> None:
        self._rest = b""

    def _on_readable(self) -> None:
        try:
            count = self._source.recv_into(_chunk, SHORT if FAIRNESS.short_turns else 0)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error)
            return
        if not count:
            self._finish()
            return
        self._share.took(count)
        sent = self._send(_chunk[:count])
        if sent is not None and sent < count:
            self._rest = bytes(_chunk[sent:count])
            self._block()
        elif sent is not None:
            check_soon(self._loop, self._recheck)

    def _on_writable(self) -> None:
        sent = self._send(self._rest)
        if sent is not None:
            self._rest = self._rest[sent:]
            if not self._rest:
                self._unblock()

    def _send(self, data: bytes | memoryview) -> int | None:
        """Return how many bytes the sink took, or ``None`` after a failure."""
        try:
            sent = self._sink.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._fail(error)
            return None
        self.moved += sent
        self._counts.bytes_copied += sent
        return sent


MakeForwarder = Callable[[socket.socket, socket.socket, Share, OnEnd], Forwarder]
"""Takes the source, the sink, the share of the loop and whom to tell of the end."""

HowToForward = Literal["auto", "splice", "copy"]


def choose_forwarder(
    choice: HowToForward, loop: asyncio.AbstractEventLoop, counts: Counts
) -> tuple[MakeForwarder, Pipes]:
    """Return what makes the directions of a joint, and the pipes it uses, for the caller to close.

    Raises:
        SettingError: ``splice`` was asked for and does not work here.
    """
    works = choice != "copy" and can_splice()
    if choice == "splice" and not works:
        raise SettingError("--forwarder: splice does not work on this system; use auto or copy")
    pipes = Pipes(reserve=works)

    if works:
        return partial(SpliceForwarder, loop, pipes=pipes, counts=counts), pipes
    return partial(CopyForwarder, loop, counts=counts), pipes
