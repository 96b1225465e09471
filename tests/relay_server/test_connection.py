"""The visitor's end of the HTTP edge: what is read and written, and who has stopped doing so."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

from relay_server.http.connection import Connection
from relay_server.http.wires import PlainWire
from tests.common.loops import on_both_loops, run, turns, until
from tests.common.sessions import tcp_pair

RESET = b"\1\0\0\0\0\0\0\0"


class User:
    """Keeps what it is told; ``visitor`` is the other end."""

    def __init__(self, buffer: int) -> None:
        self.visitor, sock = tcp_pair(buffer)
        self.got = bytearray()
        self.ends: list[bool] = []
        self.drained = self.lost = 0
        self.connection = Connection(asyncio.get_running_loop(), PlainWire(sock), self)

    def on_data(self, data: memoryview) -> None:
        self.got += data

    def on_visitor_end(self, *, reset: bool) -> None:
        self.ends.append(reset)

    def on_drained(self) -> None:
        self.drained += 1

    def on_lost(self) -> None:
        self.lost += 1
        self.connection.close(abort=True)

    def clog(self) -> None:
        """Write until the kernel takes no more."""
        while not self.connection.draining:
            self.connection.write(bytes(1 << 20))

    def take(self, count: int = 1 << 20) -> None:
        with contextlib.suppress(BlockingIOError):
            self.visitor.recv(count)


def played(kind: str, play: Callable[[User], Awaitable[None]], buffer: int = 0) -> None:
    async def main() -> None:
        user = User(buffer)
        user.connection.start()
        try:
            await play(user)
        finally:
            user.connection.close(abort=False)
            user.connection.close(abort=True)
            user.visitor.close()

    run(kind, main)


def now() -> float:
    return asyncio.get_running_loop().time()


@on_both_loops
def test_who_is_not_read_is_slowed_and_loses_nothing(kind: str) -> None:
    async def play(user: User) -> None:
        user.connection.stop_reading()
        user.visitor.send(b"hello")
        await turns()
        assert not user.got
        assert user.connection.unread_s(now() + 5) == 0  # it is we who do not listen
        user.connection.read_on()
        await until(lambda: user.got == b"hello", "it is read")
        assert 5 < user.connection.unread_s(now() + 5.1) < 6

    played(kind, play)


@on_both_loops
def test_the_end_is_told_once(kind: str) -> None:
    async def play(user: User) -> None:
        user.visitor.send(b"last")
        user.visitor.shutdown(socket.SHUT_WR)
        await until(lambda: user.ends, "the end is told")
        assert user.ends == [False]
        assert user.got == b"last"
        assert user.connection.ended
        user.connection.read_on()
        await turns()
        assert user.ends == [False]

    played(kind, play)


@on_both_loops
def test_what_is_not_taken_grows_old_and_what_is_taken_is_young(kind: str) -> None:
    async def play(user: User) -> None:
        assert user.connection.untaken_s(now() + 9) == 0  # nothing waits
        user.clog()
        began = now()
        assert user.connection.untaken_s(began + 9) > 8.9
        await turns(50)

        def taken() -> bool:
            user.take(1 << 16)
            return user.connection.untaken_s(began + 9) < 9

        await until(taken, "some is taken")

    played(kind, play, buffer=16384)


@on_both_loops
def test_goodbye_is_said_behind_what_waits(kind: str) -> None:
    async def play(user: User) -> None:
        user.clog()
        user.connection.say_goodbye()
        total = 0

        def ended() -> bool:
            nonlocal total
            with contextlib.suppress(BlockingIOError):
                while piece := user.visitor.recv(1 << 20):
                    total += len(piece)
                return True
            return False

        await until(ended, "the visitor sees the end")
        assert total == user.connection.sent
        assert user.drained == 1

    played(kind, play, buffer=16384)


@on_both_loops
def test_a_visitor_that_is_lost_while_it_is_written_to_is_told_once(kind: str) -> None:
    async def play(user: User) -> None:
        user.connection.stop_reading()
        user.clog()
        user.visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        user.visitor.close()
        await until(lambda: user.lost, "the loss is told")
        user.connection.write(b"more")
        await turns()
        assert user.lost == 1

    played(kind, play, buffer=16384)


@on_both_loops
def test_the_kernel_knows_of_a_reset_that_nobody_reads(kind: str) -> None:
    async def play(user: User) -> None:
        user.connection.stop_reading()
        assert not user.connection.is_dead()
        user.visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        user.visitor.close()
        await until(user.connection.is_dead, "the kernel knows")

    played(kind, play)


@on_both_loops
def test_a_visitor_that_has_ended_its_side_is_not_dead(kind: str) -> None:
    async def play(user: User) -> None:
        user.visitor.shutdown(socket.SHUT_WR)
        await until(lambda: user.ends, "the end is told")
        assert not user.connection.is_dead()
        user.connection.say_goodbye()
        await turns()
        assert not user.connection.is_dead()

    played(kind, play)


@on_both_loops
def test_a_visitor_that_may_vanish_is_asked_for_a_sign_of_life(kind: str) -> None:
    async def play(user: User) -> None:
        sock = user.connection._wire.sock
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60

    played(kind, play)
