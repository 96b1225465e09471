"""A relay in this process, and clients that log in to it as real ones do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import anyio

from common.forwarding import choose_forwarder
from common.key_options import KeyOptions
from common.keys import Identity
from common.link import Client, Link, login
from common.listener import Listener
from common.sockets import listen
from common.tls import unwrap
from common.trusted_keys import TrustedKey, TrustedKeys
from common.wire import Paired, Role
from relay_server.metrics import Metrics
from relay_server.public.side import PublicConfig, PublicSide
from relay_server.relay import Relay
from tests.common.fake_relay import new_client, relay_side
from tests.common.loops import run, until
from tests.common.sessions import ANN


def trusted(*identities: Identity) -> TrustedKeys:
    return TrustedKeys(
        TrustedKey(each.public, KeyOptions(), "keys.txt", line)
        for line, each in enumerate(identities, start=1)
    )


class Bench:
    def __init__(self, tasks: anyio.abc.TaskGroup, heartbeat_s: float) -> None:
        loop = asyncio.get_running_loop()
        self.metrics = Metrics()
        make, self.pipes = choose_forwarder("auto", loop, self.metrics)
        self.relay = Relay(
            relay_side(),
            trusted(ANN),
            "keys.txt",
            heartbeat_s=heartbeat_s,
            make_forwarder=make,
            public=lambda clients, trusted: PublicSide(
                PublicConfig(),
                trusted=trusted,
                clients=clients,
                heartbeat_s=heartbeat_s,
                make_forwarder=make,
                metrics=self.metrics,
            ),
            metrics=self.metrics,
            tasks=tasks,
        )
        self.listener = Listener(loop, listen("127.0.0.1", 0), self.relay.reception.accept)

    async def link(self, role: Role = "entry-point", client: Client | None = None) -> Link:
        who = client or new_client(role, partners=(ANN,))
        return await login(self.listener.address, who, lambda: None)

    async def couple(self) -> tuple[Link, Link]:
        """Two links that have been told of each other."""
        one, two = await self.link("reverse-proxy"), await self.link("entry-point")
        acceptor, opener = await asyncio.gather(one.wait(), two.wait())
        assert isinstance(acceptor, Paired)
        assert isinstance(opener, Paired)
        assert (acceptor.opener, opener.opener) == (False, True)
        return one, two

    async def pair(self) -> tuple[socket.socket, socket.socket]:
        one, two = await self.couple()
        raw = [unwrap(await each.hand_over()) for each in (one, two)]
        await until(lambda: self.relay.pairs, "joined")
        return raw[0], raw[1]

    def knock(self) -> socket.socket:
        sock = socket.create_connection((self.listener.address.host, self.listener.address.port), 5)
        sock.setblocking(False)
        return sock


def bench(kind: str, main: Callable[[Bench], Awaitable[None]], heartbeat_s: float = 60) -> None:
    async def whole() -> None:
        async with anyio.create_task_group() as tasks:
            b = Bench(tasks, heartbeat_s)
            tasks.start_soon(b.relay.watch)
            try:
                await main(b)
            finally:
                b.listener.close()
                b.relay.stop()
                b.relay.abort()
                tasks.cancel_scope.cancel()
        assert (b.relay.reception.strangers, b.relay.pending, b.relay.pairs) == (0, 0, 0)
        assert not b.relay._per_key
        assert not b.relay._weddings
        assert b.relay._matchmaker.waiting == 0
        assert not b.relay._matchmaker._pairs
        assert b.pipes.lent == 0
        b.pipes.close()

    run(kind, whole)


def end_of(sock: socket.socket) -> str:
    """How the connection has ended, if it has."""
    try:
        while sock.recv(4096):
            pass
    except BlockingIOError:
        return ""
    except ConnectionResetError:
        return "rst"
    return "fin"
