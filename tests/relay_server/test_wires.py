"""Both kinds of a visitor's connection do the same; TLS bounds what costs and carries nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from common.session import MOST_EMPTY
from relay_server.http.certificates import Certificates
from relay_server.http.wires import BUFFER_SIZE, PlainWire, TlsWire, Wire
from tests.common.loops import on_both_loops, run, until
from tests.common.sessions import tcp_pair
from tests.programs.evil_client import update_keys
from tests.relay_server.test_certificates import make

KINDS = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


class Ends:
    """A wire, and the visitor's end of it."""

    def __init__(self, wire: Wire, visitor: socket.socket | ssl.SSLSocket) -> None:
        self.wire, self.visitor = wire, visitor
        self.got = bytearray()
        self._buffer = memoryview(bytearray(BUFFER_SIZE))

    def read(self) -> int:
        count = self.wire.read(self._buffer)
        self.got += self._buffer[:count]
        return count

    def answer(self) -> bytes:
        """What the visitor has got just now."""
        found = bytearray()
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
            while piece := self.visitor.recv(1 << 16):
                found += piece
        return bytes(found)


async def agreed(path: Path, buffer: int = 0) -> tuple[TlsWire, ssl.SSLSocket]:
    left, right = tcp_pair(buffer)
    certificates = Certificates([make(path, "a", "a.example")])
    wire = TlsWire(certificates.context("a.example"), right, server=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = context.wrap_socket(left, do_handshake_on_connect=False)
    waiting: list[Callable[[], None]] = [client.do_handshake, wire.do_handshake]
    while waiting:
        for step in list(waiting):
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                step()
                waiting.remove(step)
        await asyncio.sleep(0)
    return wire, client


def played(
    kind: str,
    tls: bool,
    path: Path,
    play: Callable[[Ends], Awaitable[None]],
    buffer: int = 0,
) -> None:
    async def main() -> None:
        if tls:
            ends = Ends(*await agreed(path, buffer))
        else:
            left, right = tcp_pair(buffer)
            ends = Ends(PlainWire(right), left)
        try:
            await play(ends)
        finally:
            ends.visitor.close()
            ends.wire.close()

    run(kind, main)


@KINDS
@on_both_loops
def test_bytes_go_both_ways_and_the_end_is_told(kind: str, tls: bool, tmp_path: Path) -> None:
    async def play(ends: Ends) -> None:
        assert ends.read() == 0
        assert not ends.wire.ended
        ends.visitor.send(b"question")
        await until(ends.read, "the question has come")
        assert ends.wire.write(b"answer")
        ends.wire.say_goodbye()
        await until(lambda: ends.answer() == b"answer", "the answer has come")
        ends.visitor.send(b", and more")
        await until(ends.read, "reading goes on")
        assert ends.got == b"question, and more"
        ends.visitor.close()
        await until(lambda: ends.read() or ends.wire.ended, "the end is told")
        assert isinstance(ends.wire.ended, str)

    played(kind, tls, tmp_path, play)


@KINDS
@on_both_loops
def test_what_the_kernel_does_not_take_is_kept_in_order(
    kind: str, tls: bool, tmp_path: Path
) -> None:
    async def play(ends: Ends) -> None:
        sent = bytes(range(256)) * 4096
        assert not ends.wire.write(sent)
        assert not ends.wire.write(b"last")
        got = bytearray()

        def all_here() -> bool:
            got.extend(ends.answer())
            ends.wire.flush()
            return len(got) >= len(sent) + 4

        await until(all_here, "all has come")
        assert got == sent + b"last"
        assert ends.wire.flush()

    played(kind, tls, tmp_path, play, buffer=16384)


@KINDS
@on_both_loops
def test_a_large_upload_is_whole(kind: str, tls: bool, tmp_path: Path) -> None:
    sent = bytes(range(256)) * 8192

    async def play(ends: Ends) -> None:
        left = memoryview(sent)

        def all_here() -> bool:
            nonlocal left
            with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError):
                while left:
                    left = left[ends.visitor.send(left[: 1 << 16]) :]
            ends.read()
            assert not ends.wire.ended
            return len(ends.got) >= len(sent)

        await until(all_here, "all has come")
        assert ends.got == sent

    played(kind, tls, tmp_path, play)


@KINDS
@on_both_loops
def test_a_reset_is_an_error_on_either_way(kind: str, tls: bool, tmp_path: Path) -> None:
    async def play(ends: Ends) -> None:
        ends.visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        ends.visitor.close()
        await until(lambda: ends.read() or ends.wire.ended, "the reset is told")
        assert isinstance(ends.wire.ended, ConnectionResetError)
        with pytest.raises(OSError, match=r"pipe|reset"):
            ends.wire.write(b"anything")
        ends.wire.say_goodbye()

    played(kind, tls, tmp_path, play)


def test_endless_key_updates_are_cut_off(tmp_path: Path) -> None:
    async def play(ends: Ends) -> None:
        visitor = ends.visitor
        assert isinstance(visitor, ssl.SSLSocket)
        sent = 0

        def cut_off() -> bool:
            nonlocal sent
            with contextlib.suppress(OSError):
                update_keys(visitor, 100)
                sent += 100
            assert ends.read() == 0
            return bool(ends.wire.ended)

        await until(cut_off, "the visitor is cut off")
        assert ends.wire.ended == "too many records without data"
        assert sent * 27 < 4 * MOST_EMPTY

    played("asyncio", True, tmp_path, play)


def test_short_records_are_no_waste(tmp_path: Path) -> None:
    count = 2 * MOST_EMPTY // 23

    async def play(ends: Ends) -> None:
        for number in range(count):
            ends.visitor.send(b"x")
            if number % 10 == 0:
                ends.read()
        await until(lambda: ends.read() or len(ends.got) >= count, "all has come")
        assert not ends.wire.ended

    played("asyncio", True, tmp_path, play)
