from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Iterator
from typing import cast

import pytest

from common import listener as module
from common.addresses import HostPort
from common.listener import Listener
from common.sockets import listen
from tests.common.loops import on_both_loops, run, turns, until


class Door:
    """A listener that keeps what it accepts."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.accepted: list[tuple[socket.socket, HostPort]] = []
        self.listener = Listener(asyncio.get_running_loop(), listen(host, 0), self.take)

    def take(self, sock: socket.socket, address: HostPort) -> None:
        self.accepted.append((sock, address))

    def knock(self, host: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection((host, self.listener.address.port), 5)

    def close(self) -> None:
        self.listener.close()
        for sock, _ in self.accepted:
            sock.close()


@on_both_loops
def test_every_connection_is_accepted_ready_for_use(kind: str) -> None:
    async def main() -> None:
        door = Door()
        clients = [door.knock() for _ in range(2 * module.BATCH + 1)]
        await until(lambda: len(door.accepted) == len(clients), "all accepted")
        assert {address for _, address in door.accepted} == {
            HostPort(*each.getsockname()) for each in clients
        }
        assert not any(sock.getblocking() for sock, _ in door.accepted)
        door.listener.close()
        door.close()
        for each in clients:
            each.close()

    run(kind, main)


@on_both_loops
def test_ipv4_on_a_dual_stack_socket_is_ipv4(kind: str) -> None:
    async def main() -> None:
        door = Door("")
        clients = [door.knock("127.0.0.1"), door.knock("::1")]
        await until(lambda: len(door.accepted) == 2, "both accepted")
        assert [address.host for _, address in door.accepted] == ["127.0.0.1", "::1"]
        door.close()
        for each in clients:
            each.close()

    run(kind, main)


@on_both_loops
def test_a_callback_may_close_the_listener(kind: str) -> None:
    async def main() -> None:
        door = Door()
        take = door.take

        def take_and_close(sock: socket.socket, address: HostPort) -> None:
            take(sock, address)
            door.listener.close()

        door.listener._on_accept = take_and_close
        clients = [door.knock() for _ in range(3)]
        await until(lambda: door.accepted, "accepted")
        await turns()
        assert len(door.accepted) == 1
        door.close()
        for each in clients:
            each.close()

    run(kind, main)


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Lower the limit to what is open already."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.open(os.devnull, os.O_RDONLY)
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (probe + 1, hard))
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(0))
        os.close(probe)
        held.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in held:
            os.close(each)


@on_both_loops
def test_without_descriptors_connections_wait_and_nothing_spins(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.02)

    async def main() -> None:
        door = Door()
        pauses = 0
        pause = Listener._pause

        def counted(self: Listener, error: OSError) -> None:
            nonlocal pauses
            pauses += 1
            pause(self, error)

        monkeypatch.setattr(Listener, "_pause", counted)
        clients = [door.knock() for _ in range(3)]
        with no_descriptors_left():
            await until(lambda: pauses >= 3, "it tries again after each pause")
            loop = asyncio.get_running_loop()
            begin, before = loop.time(), pauses
            await until(lambda: loop.time() - begin > 0.1, "a while")
            assert pauses - before <= 6
            assert door.accepted == []
        await until(lambda: len(door.accepted) == 3, "all are served in the end")
        monkeypatch.undo()
        door.close()
        for each in clients:
            each.close()

    run(kind, main)


@on_both_loops
def test_a_listener_closed_in_its_pause_stays_closed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.005)

    async def main() -> None:
        door = Door()
        door.listener._pause(OSError(errno.EMFILE, "Too many open files"))
        door.listener.close()
        door.listener.close()
        reuse = [socket.socket() for _ in range(5)]  # the number of the descriptor lives again
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await until(lambda: loop.time() - begin > 0.02, "longer than the pause")
        assert not any(loop.remove_reader(each.fileno()) for each in reuse)
        for each in reuse:
            each.close()

    run(kind, main)


@on_both_loops
def test_a_connection_that_fails_in_accept_does_not_stop_the_others(kind: str) -> None:
    class Flaky:
        def __init__(self, sock: socket.socket) -> None:
            self.sock, self.failed = sock, 0

        def accept(self) -> tuple[socket.socket, tuple[str, int]]:
            if self.failed < 2:
                self.failed += 1
                raise OSError(errno.ECONNABORTED, "Software caused connection abort")
            return self.sock.accept()

        def __getattr__(self, name: str) -> object:
            return getattr(self.sock, name)

    async def main() -> None:
        door = Door()
        door.listener._sock = cast("socket.socket", Flaky(door.listener._sock))
        client = door.knock()
        await until(lambda: door.accepted, "accepted")
        door.close()
        client.close()

    run(kind, main)
