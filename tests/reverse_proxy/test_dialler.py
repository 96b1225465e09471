from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable
from typing import Any

import pytest

from common.refusals import Refusal
from reverse_proxy import dialler
from reverse_proxy.dialler import Dial
from tests.common.loops import on_both_loops, run, turns, until


class _Resolver:
    """A loop whose threads have another ``getaddrinfo``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, getaddrinfo: Callable[..., Any]) -> None:
        self._loop, self._getaddrinfo = loop, getaddrinfo

    def run_in_executor(self, _threads: object, question: functools.partial[Any]) -> Any:
        return self._getaddrinfo(*question.args, **question.keywords)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class Caller:
    """Starts a dial and writes down how it ends."""

    def __init__(
        self,
        host: str,
        port: int,
        judge: Callable[[str, str, int], Refusal | None] = lambda *_: None,
        getaddrinfo: Callable[..., Any] | None = None,
    ) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.connected: list[socket.socket] = []
        self.refused: list[Refusal] = []
        self._judge = judge
        loop: Any = asyncio.get_running_loop()
        if getaddrinfo is not None:
            loop = _Resolver(loop, getaddrinfo)
        self.dial = Dial(
            loop,
            host,
            port,
            self.judge,
            self.connected.append,
            self.refused.append,
        )
        self.dial.start()

    def judge(self, host: str, address: str, port: int) -> Refusal | None:
        self.asked.append((host, address, port))
        return self._judge(host, address, port)

    async def end(self) -> socket.socket | Refusal:
        await until(lambda: self.connected or self.refused, "the dial ends")
        await turns()
        assert len(self.connected) + len(self.refused) == 1
        return (self.connected or self.refused)[0]


def addresses(*found: str) -> Callable[..., Any]:
    """A resolver that knows one name."""

    async def getaddrinfo(host: bytes, port: int, **_: object) -> list[Any]:
        assert isinstance(host, bytes)
        return [(0, 0, 0, "", (each, port)) for each in found]

    return getaddrinfo


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@on_both_loops
def test_an_address_is_dialled_without_asking_a_resolver(kind: str) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            caller = Caller("127.0.0.1", port)
            sock = await caller.end()
            assert isinstance(sock, socket.socket)
            assert sock.getpeername() == ("127.0.0.1", port)
            assert not sock.getblocking()
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert caller.asked == [("127.0.0.1", "127.0.0.1", port)]
            sock.close()

    run(kind, main)


@on_both_loops
def test_a_refused_connection_names_address_port_and_reason(kind: str) -> None:
    async def main() -> None:
        port = unused_port()
        assert await Caller("127.0.0.1", port).end() == Refusal(
            "unreachable", f"127.0.0.1 port {port}: Connection refused"
        )

    run(kind, main)


@on_both_loops
def test_the_address_that_was_judged_is_the_one_that_is_dialled(kind: str) -> None:
    no = Refusal("not-permitted", "not this one")

    async def main() -> None:
        with socket.create_server(("127.0.0.2", 0)) as listener:
            port = listener.getsockname()[1]
            caller = Caller(
                "service.example",
                port,
                lambda _host, address, _port: no if address == "127.0.0.1" else None,
                addresses("127.0.0.1", "127.0.0.2", "127.0.0.2"),
            )
            sock = await caller.end()
            assert isinstance(sock, socket.socket)
            assert sock.getpeername() == ("127.0.0.2", port)
            assert caller.asked == [
                ("service.example", "127.0.0.1", port),
                ("service.example", "127.0.0.2", port),
            ]
            sock.close()

    run(kind, main)


@on_both_loops
def test_the_next_address_is_tried_and_the_first_reason_is_told(kind: str) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.3", 0)) as listener:
            port = listener.getsockname()[1]
            sock = await Caller("db", port, getaddrinfo=addresses("127.0.0.1", "127.0.0.3")).end()
            assert isinstance(sock, socket.socket)
            sock.close()
        port = unused_port()
        refusal = await Caller("db", port, getaddrinfo=addresses("127.0.0.1", "127.0.0.3")).end()
        assert refusal == Refusal("unreachable", f"db (127.0.0.1) port {port}: Connection refused")

    run(kind, main)


@on_both_loops
def test_a_denied_address_is_not_dialled(kind: str) -> None:
    async def main() -> None:
        no = Refusal("not-permitted", "not in the list")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            caller = Caller("127.0.0.1", listener.getsockname()[1], lambda *_: no)
            assert await caller.end() is no
            with pytest.raises(BlockingIOError):
                listener.accept()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize(
    "host",
    [
        "no-such-name.invalid",
        "no such name",
        "xn--\N{SNOWMAN}",
        "a" * 255,
        "a..b",
        "localhost\0.example",
        "\0",
        "::1%no-such-zone",
        "fe80::1%no-such-zone",
        "::1%",
    ],
)
def test_whatever_is_asked_for_there_is_an_answer(kind: str, host: str) -> None:
    """A dial that never ends would keep the source waiting for ever."""

    async def main() -> None:
        refusal = await Caller(host, unused_port()).end()
        assert isinstance(refusal, Refusal)
        assert refusal.code in ("unresolved", "unreachable")

    run(kind, main)


@on_both_loops
def test_an_error_of_the_resolver_is_an_answer(kind: str) -> None:
    async def broken(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    async def main() -> None:
        assert await Caller("db", 1, getaddrinfo=broken).end() == Refusal(
            "unresolved", "cannot resolve 'db' here: Temporary failure in name resolution"
        )
        assert await Caller("db", 1, getaddrinfo=addresses()).end() == Refusal(
            "unresolved", "'db' has no address here"
        )

    run(kind, main)


@on_both_loops
def test_a_resolver_and_an_address_may_not_take_for_ever(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reverse_proxy.resolver.RESOLVE_TIMEOUT_S", 0.01)
    monkeypatch.setattr(dialler, "DIAL_TIMEOUT_S", 0.01)

    async def never(*_: object, **__: object) -> list[Any]:
        await asyncio.Event().wait()
        return []

    async def main() -> None:
        assert await Caller("db", 1, getaddrinfo=never).end() == Refusal(
            "unresolved", "cannot resolve 'db' here: no answer"
        )
        with full_listener() as (listener, fillers):
            port = listener.getsockname()[1]
            assert await Caller("127.0.0.1", port).end() == Refusal(
                "unreachable", f"127.0.0.1 port {port}: no answer within 0.01 s"
            )
            for each in fillers:
                each.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("phase", ["resolving", "dialling"])
def test_a_cancelled_dial_calls_nobody_and_leaves_nothing(kind: str, phase: str) -> None:
    async def never(*_: object, **__: object) -> list[Any]:
        await asyncio.Event().wait()
        return []

    async def main() -> None:
        if phase == "resolving":
            caller = Caller("db", 1, getaddrinfo=never)
            await turns()
            caller.dial.cancel()
        else:
            with full_listener() as (listener, fillers):
                caller = Caller("127.0.0.1", listener.getsockname()[1])
                await turns()
                caller.dial.cancel()
                caller.dial.cancel()
                for each in fillers:
                    each.close()
        await turns()
        assert (caller.connected, caller.refused) == ([], [])

    run(kind, main)


@on_both_loops
def test_no_descriptor_is_left(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with pytest.MonkeyPatch.context() as patch:

            def none_left(*_: object) -> socket.socket:
                raise OSError(24, "Too many open files")

            patch.setattr(socket, "socket", none_left)
            caller = Caller("127.0.0.1", 1)
        assert await caller.end() == Refusal("unreachable", "127.0.0.1 port 1: Too many open files")

    run(kind, main)


class full_listener:  # noqa: N801 - reads as a function
    """A listener that answers no SYN any more, for its queue is full."""

    def __enter__(self) -> tuple[socket.socket, list[socket.socket]]:
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self.listener.getsockname())
            fillers.append(filler)
        return self.listener, fillers

    def __exit__(self, *_: object) -> None:
        self.listener.close()
