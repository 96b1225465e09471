"""Two streams joined by a channel, as entry-point and reverse-proxy have them, and a user's socket
at each end: ``source``, the entry-point's ``Stream``, TLS, the reverse-proxy's ``Stream``,
``destination``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Literal

import pytest

from common import frames
from common.channel import Channel
from common.outcome import Outcome
from common.session import Session
from common.sockets import close_with_reset
from common.stream import Stream
from tests.common.loops import turns, until
from tests.common.sessions import session_pair, tcp_pair

End = Literal["source", "destination"]
ENDS: tuple[End, End] = ("source", "destination")

both_ends = pytest.mark.parametrize("end", ENDS)


def other(end: End) -> End:
    return ENDS[end == "source"]


class Idle:
    """Takes the channel back after a stream; counts what it is told."""

    def __init__(self) -> None:
        self.lost: list[str] = []

    def on_data(self, data: memoryview) -> int:
        raise frames.not_allowed(frames.DATA, "on an idle channel")

    def on_frame(self, kind: int, payload: bytes) -> None:
        if kind not in (frames.PONG, frames.DONE):
            raise frames.not_allowed(kind, "on an idle channel")

    def on_drained(self) -> None:
        pass

    def on_tick(self) -> None:
        pass

    def on_lost(self, reason: str) -> None:
        self.lost.append(reason)


class User:
    """The program at one end: a socket in the hands of a test."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = bytearray()
        self.end: str = ""
        """"fin" or "rst", as it was seen."""
        self.to_send = bytearray()
        self.shut = False
        self.reads = True

    def step(self) -> None:
        """Send and take what goes without waiting."""
        if self.sock.fileno() < 0:
            return
        try:
            if self.to_send:
                with contextlib.suppress(BlockingIOError):
                    del self.to_send[: self.sock.send(self.to_send)]
            elif self.shut:
                self.shut = False
                self.sock.shutdown(socket.SHUT_WR)
            if self.reads and not self.end:
                with contextlib.suppress(BlockingIOError):
                    piece = self.sock.recv(1 << 16)
                    self.received += piece
                    self.end = "" if piece else "fin"
        except (ConnectionResetError, BrokenPipeError):
            self.end = "rst"
        except OSError:  # shutdown of a connection that was reset
            self.end = "rst"

    def reset(self) -> None:
        close_with_reset(self.sock)


class Line:
    """A channel between two ends, and the streams it carries one after the other."""

    def __init__(self, one: Session, two: Session, heartbeat_s: float) -> None:
        loop = asyncio.get_running_loop()
        self.heartbeat_s = heartbeat_s
        self.idle = {end: Idle() for end in ENDS}
        self.channels = {
            end: Channel(loop, tls, self.idle[end], heartbeat_s)
            for end, tls in zip(ENDS, (one, two), strict=True)
        }

    def close(self) -> None:
        for each in self.channels.values():
            each.close()


class Talk:
    """One stream on a line, users at both ends included."""

    def __init__(self, line: Line, buffer: int = 0, preface: bytes = b"") -> None:
        loop = asyncio.get_running_loop()
        self.line = line
        self.users: dict[End, User] = {}
        self.streams: dict[End, Stream] = {}
        self.ended: list[Stream] = []
        for end in ENDS:
            user, local = tcp_pair(buffer)
            self.users[end] = User(user)
            self.streams[end] = Stream(
                loop, line.channels[end], local, end, self._on_end, line.heartbeat_s
            )
        self.streams["destination"].begin()
        self.streams["source"].begin(preface)

    def _on_end(self, stream: Stream) -> None:
        assert stream.outcome is not None
        assert stream.local.fileno() < 0
        self.ended.append(stream)
        end = next(each for each in ENDS if self.streams[each] is stream)
        stream.channel.handler = self.line.idle[end]

    def __getitem__(self, end: End) -> User:
        return self.users[end]

    @property
    def outcomes(self) -> dict[End, Outcome | None]:
        return {end: each.outcome for end, each in self.streams.items()}

    async def until(self, condition: Callable[[], object], what: str) -> None:
        def step() -> object:
            for each in self.users.values():
                each.step()
            return condition()

        await until(step, what)

    async def ends(self) -> dict[End, Outcome | None]:
        """Wait until both streams have ended, and both users know."""

        def over() -> bool:
            alive = [each for each in self.users.values() if each.sock.fileno() >= 0 and each.reads]
            return len(self.ended) == 2 and all(each.end for each in alive)

        await self.until(over, f"both streams end: {self.outcomes}")
        await turns()
        assert len(self.ended) == 2
        for each in self.users.values():
            each.sock.close()
        return self.outcomes


async def new_line(buffer: int = 0, heartbeat_s: float = 60) -> Line:
    return Line(*await session_pair(buffer), heartbeat_s)


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]
