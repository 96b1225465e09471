"""A relay that does what a test tells it to: real TCP, real TLS, scripted messages."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from common.addresses import HostPort
from common.errors import PeerError
from common.frames import INNER_ALPN
from common.keys import Identity
from common.link import Client
from common.listener import Listener
from common.message_io import MessageStream
from common.sockets import listen
from common.tls import acceptor_context, handshake, link_context, relay_context, unwrap, wrap
from common.wire import ALPN, VERSION, Hello, Message, Paired, Ready, Role, Trust, Welcome
from gen_cert.names import parse_names
from gen_cert.x509 import make_certificate
from tests.common.sessions import ANN, BOB


@functools.cache
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    with tempfile.TemporaryDirectory() as directory:
        made = make_certificate(parse_names(["localhost"], ["127.0.0.1"]), 1, datetime.now(UTC))
        files = Path(directory, "server.crt"), Path(directory, "server.key")
        for file, data in zip(files, (made.certificate, made.key), strict=True):
            file.write_bytes(data)
        return relay_context(*map(str, files)), link_context(ANN, str(files[0]))


def relay_side() -> ssl.SSLContext:
    """The relay's context."""
    return _contexts()[0]


def new_client(
    role: Role = "entry-point",
    partners: tuple[Identity, ...] = (BOB,),
    context: ssl.SSLContext | None = None,
    group: str = "0",
) -> Client:
    """Ann as a client that accepts ``partners``."""
    keys = [each.public.raw for each in partners]
    return Client(
        role=role,
        group=group,
        key=ANN.public,
        instance=b"A" * 16,
        context=context or _contexts()[1],
        partners=lambda: keys,
        accepts=keys.__contains__,
    )


class Session:
    """The relay's end of one link."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self.tls = tls
        self._messages = MessageStream(tls)
        self.heard: list[Message] = []

    async def greeting(self) -> Hello:
        while True:
            message = await self.receive()
            if isinstance(message, Hello):
                return message
            assert isinstance(message, Trust)

    async def welcome(self, heartbeat_s: float = 5.0) -> Hello:
        hello = await self.greeting()
        await self.send(Welcome(VERSION, 1, heartbeat_s))
        return hello

    async def send(self, *messages: Message) -> None:
        await self._messages.send(*messages)

    async def receive(self) -> Message:
        message = await self._messages.receive()
        self.heard.append(message)
        return message

    async def pair(
        self, partner: Identity = BOB, *, opener: bool = True, backlog: int = 0
    ) -> socket.socket:
        """Say PAIRED, wait for READY and return the raw socket, which is the caller's."""
        await self.send(Paired(partner.public.raw, b"B" * 16, opener, backlog))
        while not isinstance(await self.receive(), Ready):
            pass
        return unwrap(self.tls)

    async def join(self, partner: Identity = BOB, backlog: int = 0) -> ssl.SSLSocket:
        """The same, with an acceptor's inner session on it."""
        raw = await self.pair(partner, backlog=backlog)
        inner = wrap(acceptor_context(partner), raw, server=True)
        await handshake(inner, INNER_ALPN)
        return inner


class FakeRelay:
    """Runs ``script(session)`` for every link; the script's session is closed after it."""

    def __init__(self, script: Callable[[Session], Awaitable[None]]) -> None:
        self._script = script
        self.links = 0
        self.open = 0
        self.errors: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = Listener(asyncio.get_running_loop(), listen("127.0.0.1", 0), self._accept)
        self.address = self._listener.address

    def _accept(self, sock: socket.socket, address: HostPort) -> None:
        self.links += 1
        task = asyncio.get_running_loop().create_task(self._serve(sock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: sock.close())  # cancelled before it began

    async def _serve(self, sock: socket.socket) -> None:
        self.open += 1
        tls = wrap(relay_side(), sock, server=True)
        try:
            await handshake(tls, ALPN)
            await self._script(Session(tls))
        except PeerError as error:
            self.errors.append(error)
        finally:
            self.open -= 1
            tls.close()

    async def close(self) -> None:
        self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
