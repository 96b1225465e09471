"""The ends of what a relay's public side carries: the visitor's socket, the service's channel."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from common import frames
from common.channel import Channel
from common.session import Session
from common.wire import Visit
from tests.common.loops import until


class Service:
    """The acceptor's end of a channel: keeps what comes, says what it is told to."""

    def __init__(self, session: Session) -> None:
        self.received = bytearray()
        self.frames: list[int] = []
        self.asked: list[bytes] = []
        self.lost = ""
        self.channel = Channel(asyncio.get_running_loop(), session, self, 10.0)

    def on_data(self, data: memoryview) -> int:
        self.received += data
        return len(data)

    def on_frame(self, kind: int, payload: bytes) -> None:
        self.frames.append(kind)
        if kind == frames.VISIT:
            self.asked.append(bytes(payload))

    def on_drained(self) -> None:
        pass

    def on_tick(self) -> None:
        pass

    def on_lost(self, reason: str) -> None:
        self.lost = reason

    @property
    def visits(self) -> list[Visit]:
        return [frames.decode_visit(each) for each in self.asked]

    def say(self, data: bytes) -> None:
        self.channel.write(frames.encode(frames.DATA, data))

    def end(self) -> None:
        """End the stream at this side, and say that the next may come."""
        self.channel.write(frames.encode(frames.FIN) + frames.encode(frames.DONE))

    async def is_ended(self) -> None:
        await until(lambda: frames.FIN in self.frames, "the stream is ended")

    async def is_reset(self) -> None:
        await until(lambda: frames.RESET in self.frames or self.lost, "the stream is reset")


class Idle(Service):
    """Holds the opener's end until an exchange takes it."""


class Visitor:
    """A visitor's end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.got = bytearray()
        self.ended = self.reset = False

    def look(self) -> Visitor:
        """Take what has come."""
        try:
            with contextlib.suppress(BlockingIOError):
                while piece := self.sock.recv(1 << 16):
                    self.got += piece
                self.ended = True
        except ConnectionError:
            self.reset = True
        return self

    async def is_reset(self) -> None:
        await until(lambda: self.look().reset, "the visitor is reset")

    async def gets(self, what: bytes) -> None:
        await until(lambda: what in self.look().got, f"the visitor gets {what!r}")
