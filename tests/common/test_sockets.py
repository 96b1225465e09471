from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import socket
import struct
import time
from typing import cast

import pytest

from common import sockets
from common.errors import SettingError
from common.sockets import close_with_reset, is_dead, listen
from tests.common.loops import on_both_loops, run, turns, until
from tests.common.sessions import tcp_pair


@pytest.mark.parametrize("host", ["", "*"])
def test_all_addresses_are_ipv4_and_ipv6(host: str) -> None:
    with listen(host, 0) as listener:
        assert not listener.getblocking()
        port = listener.getsockname()[1]
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, port), 5).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_one_address_is_just_that(host: str) -> None:
    with listen(host, 0) as listener:
        name = listener.getsockname()
        assert name[0] == host
        other = "::1" if host == "127.0.0.1" else "127.0.0.1"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((other, name[1]), 5)


def test_accepted_sockets_are_tuned() -> None:
    with listen("127.0.0.1", 0) as listener:
        client = socket.create_connection(listener.getsockname(), 5)
        listener.setblocking(True)
        accepted, _ = listener.accept()
        for sock in (accepted,):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        client.close()
        accepted.close()


def test_an_address_in_use_is_named() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        expected = (
            f"cannot listen on 127.0.0.1:{port}: Address already in use; another program listens "
            "there; choose another port, or 0 for any free one"
        )
        with pytest.raises(SettingError, match=re.escape(expected)):
            listen("127.0.0.1", port)


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(SettingError, match="this machine does not have that address; see: ip addr"):
        listen("192.0.2.1", 0)
    with pytest.raises(SettingError, match=re.escape("cannot listen on [2001:db8::7]:0: ")):
        listen("2001:db8::7", 0)


def test_a_machine_without_ipv6_listens_on_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without(family: int = socket.AF_INET, *args: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *args)

    with monkeypatch.context() as patch:
        patch.setattr(sockets.socket, "socket", without)  # type: ignore[attr-defined]
        listener = listen("", 0)
    with listener:
        assert listener.family == socket.AF_INET
        assert listener.getsockname()[0] == "0.0.0.0"


@on_both_loops
def test_a_close_with_reset_is_seen_as_one(kind: str) -> None:
    async def main() -> None:
        left, right = tcp_pair()
        left.send(b"unread")
        close_with_reset(left)
        close_with_reset(left)  # already closed: no matter
        await turns()
        assert right.recv(100) == b"unread"
        with pytest.raises(ConnectionResetError):
            right.recv(100)
        right.close()

    run(kind, main)


@on_both_loops
def test_a_stalled_reader_is_alive_and_a_reset_is_dead(kind: str) -> None:
    async def main() -> None:
        left, right = tcp_pair(16 * 1024)
        with contextlib.suppress(BlockingIOError):
            while True:
                left.send(bytes(1 << 16))
        # A window that is shut for a while: the kernel probes it and the probes are acknowledged.
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            assert not is_dead(left, 0.9)
            await asyncio.sleep(0.01)
        assert not is_dead(right, 0)
        close_with_reset(right)
        await until(lambda: is_dead(left, 3600), "the RST is seen")
        left.close()
        assert is_dead(left, 3600)

    run(kind, main)


class Told:
    """A socket of which the kernel tells this much (milliseconds)."""

    def __init__(self, *, sent_ms: int, ack_ms: int, rtt_ms: int, unacknowledged: int = 1) -> None:
        self._info = bytearray(72)
        self._info[0] = 1  # established
        for at, value in ((24, unacknowledged), (44, sent_ms), (56, ack_ms), (68, rtt_ms * 1000)):
            struct.pack_into("=I", self._info, at, value)

    def getsockopt(self, level: int, option: int, size: int = 0) -> int | bytes:
        return bytes(self._info) if size else 0


@pytest.mark.parametrize(
    ("silent_s", "told", "dead"),
    [
        pytest.param(30, Told(sent_ms=9990, ack_ms=30_010, rtt_ms=20), True, id="as by default"),
        pytest.param(30, Told(sent_ms=9990, ack_ms=29_990, rtt_ms=20), False, id="not so long"),
        pytest.param(30, Told(sent_ms=900, ack_ms=90_000, rtt_ms=20), False, id="just asked"),
        pytest.param(
            30, Told(sent_ms=9990, ack_ms=90_000, rtt_ms=0, unacknowledged=0), False, id="not asked"
        ),
        pytest.param(1.5, Told(sent_ms=490, ack_ms=1600, rtt_ms=20), True, id="PINGs every 0.5 s"),
        pytest.param(1.5, Told(sent_ms=180, ack_ms=1600, rtt_ms=20), False, id="asked 0.2 s ago"),
        pytest.param(1.5, Told(sent_ms=490, ack_ms=1600, rtt_ms=300), False, id="a long way"),
    ],
)
def test_who_does_not_answer_the_last_attempt_is_dead(
    silent_s: float, told: Told, dead: bool
) -> None:
    assert is_dead(cast(socket.socket, told), silent_s) is dead


def test_an_end_and_a_half_close_are_not_death() -> None:
    left, right = tcp_pair()
    assert not is_dead(left, 0)
    right.shutdown(socket.SHUT_WR)
    assert not is_dead(left, 0)
    left.send(b"still heard")
    assert not is_dead(right, 0)
    left.close()
    right.close()


@pytest.mark.parametrize("who_ends_first", ["reader", "writer"])
def test_an_answer_that_waits_after_both_ends_is_not_death(who_ends_first: str) -> None:
    reader, writer = tcp_pair()
    if who_ends_first == "reader":
        reader.shutdown(socket.SHUT_WR)
        assert writer.recv(1) == b""
    writer.send(b"answer")
    writer.close()
    if who_ends_first == "writer":
        reader.shutdown(socket.SHUT_WR)
    turned = time.monotonic() + 0.2
    while time.monotonic() < turned:
        assert not is_dead(reader, 3600)
    assert reader.recv(100) == b"answer"
    assert reader.recv(100) == b""
    reader.close()
