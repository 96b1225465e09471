"""A Channel at the one end; raw frames on a TLS session, read and written by hand, at the other."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

from common import frames
from common.channel import Channel
from common.frames import FrameReader
from common.sockets import close_with_reset
from common.tls import unwrap
from tests.common.loops import turns, until
from tests.common.sessions import opener_session

PING, PONG, FIN = (frames.encode(each) for each in (frames.PING, frames.PONG, frames.FIN))


def data(payload: bytes) -> bytes:
    return frames.encode(frames.DATA, payload)


class Recorder:
    """A handler that takes as much as it is allowed to, and writes down what it is told."""

    def __init__(self) -> None:
        self.room = 1 << 62
        self.received = bytearray()
        self.frames: list[tuple[int, bytes]] = []
        self.drained = 0
        self.ticks = 0
        self.lost: list[str] = []

    def on_data(self, data: memoryview) -> int:
        assert not self.lost
        taken = min(len(data), self.room)
        self.received += data[:taken]
        self.room -= taken
        return taken

    def on_frame(self, kind: int, payload: bytes) -> None:
        assert not self.lost
        if kind == frames.RESET:
            raise frames.not_allowed(kind, "here")
        self.frames.append((kind, bytes(payload)))

    def on_drained(self) -> None:
        assert not self.lost
        self.drained += 1

    def on_tick(self) -> None:
        self.ticks += 1

    def on_lost(self, reason: str) -> None:
        self.lost.append(reason)


class Raw:
    """The far end: a TLS session in the hands of a test."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self.tls = tls
        self._reader = FrameReader()
        self.frames: list[tuple[int, bytes]] = []
        self.ended: BaseException | bool = False

    def read(self) -> list[tuple[int, bytes]]:
        """Take in what is there; return every frame so far."""
        while not self.ended:
            try:
                # TLS tells a RST as an end; the socket under it knows better.
                with contextlib.suppress(BlockingIOError):
                    socket.socket.recv(self.tls, 1, socket.MSG_PEEK)
                piece = self.tls.read(1 << 16)
            except ssl.SSLWantReadError:
                break
            except OSError as error:
                self.ended = error
                break
            if not piece:
                self.ended = True
                break
            view, position = memoryview(piece), 0
            while True:
                kind, payload, position = self._reader.next(view, position)
                if not kind:
                    break
                self.frames.append((kind, bytes(payload)))
        return self.frames

    async def send(self, wire: bytes) -> None:
        view = memoryview(wire)
        loop = asyncio.get_running_loop()
        end = loop.time() + 10
        while view:
            try:
                view = view[self.tls.write(view) :]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                assert loop.time() < end, "the channel does not read"
                await asyncio.sleep(0)

    def close(self) -> None:
        self.tls.close()

    def reset(self) -> None:
        close_with_reset(unwrap(self.tls))


class Bench:
    def __init__(self, channel: Channel, handler: Recorder, far: Raw) -> None:
        self.channel, self.handler, self.far = channel, handler, far

    async def lost(self) -> str:
        await until(lambda: self.handler.lost, "the channel is lost")
        await turns()
        assert len(self.handler.lost) == 1
        assert self.channel.closed
        return self.handler.lost[0]


async def bench(buffer: int = 0, heartbeat_s: float = 0.05) -> Bench:
    near, far = await opener_session(buffer)
    handler = Recorder()
    channel = Channel(asyncio.get_running_loop(), near, handler, heartbeat_s)
    return Bench(channel, handler, Raw(far))


def tear_down(bench: Bench) -> None:
    bench.channel.close()
    bench.far.close()
