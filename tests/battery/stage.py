"""The three programs with every way in open, and destinations behind them that check everything."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from common.addresses import parse_host_port
from tests.battery.bench import POOL, Battery
from tests.battery.books import Books
from tests.battery.chaos import ChaosProxy
from tests.battery.peers import DEADLINE_S, Peers, play_all
from tests.battery.plans import Door, Plan, Tally
from tests.programs.harness import Program, Suite

NAME = "inside.example.org"
T = TypeVar("T")


@dataclass
class Stage:
    """Programs and ways in.

    Attributes:
        route: through the entry-point.
        port, raw: public ports of the relay.
        name: a host name of the relay, whose TLS is passed through.
        near: the path between entry-point and relay, if there is chaos.
        far: the path between reverse-proxy and relay, if there is chaos.
    """

    suite: Suite
    relay: Program
    reverse_proxy: Program
    entry_point: Program
    route: Door
    port: Door
    raw: Door
    name: Door
    near: ChaosProxy
    far: ChaosProxy
    listeners: dict[bytes, socket.socket]
    books: Books

    @property
    def doors(self) -> list[Door]:
        return [self.route, self.port, self.raw, self.name]

    @property
    def programs(self) -> list[Program]:
        return [self.relay, self.reverse_proxy, self.entry_point]

    def run(
        self, work: Callable[[Peers], Coroutine[Any, Any, T]], deadline_s: float = DEADLINE_S
    ) -> T:
        """Do ``work`` in a loop, with destinations at the end of every way in.

        Args:
            deadline_s: for each stream.

        Raises:
            AssertionError: of several failures, the first.
        """

        async def main() -> T:
            peers = Peers(deadline_s)
            for prefix, listener in self.listeners.items():
                peers.serve(listener, prefix)
            try:
                done = await work(peers)
            except BaseException:
                with contextlib.suppress(AssertionError):  # the first failure counts
                    await peers.close()
                raise
            await peers.close()
            return done

        try:
            return asyncio.run(main())
        except BaseExceptionGroup as group:
            raise _first(group) from group

    def play(
        self,
        jobs: Iterable[tuple[Door, Plan]],
        at_once: int,
        *,
        spoiled: bool = False,
        deadline_s: float = DEADLINE_S,
    ) -> Tally:
        """Play the streams to their ends and return what has come of them."""

        async def work(peers: Peers) -> Tally:
            await play_all(peers, jobs, at_once, spoiled=spoiled)
            return peers.tally

        return self.run(work, deadline_s)


@contextmanager
def staged(
    battery: Battery,
    *,
    chaos: bool,
    heartbeat_s: float = 10.0,
    clients: tuple[str, ...] = POOL,
) -> Iterator[Stage]:
    """Start everything; balance the books at the end.

    Args:
        chaos: whether the paths to the relay go through proxies.
        clients: flags of both clients.
    """
    with ExitStack() as stack:
        suite = stack.enter_context(battery.suite())
        hello = client_hello(NAME)
        listeners = {b"": _listener(stack), hello: _listener(stack)}
        plain, behind_name = (each.getsockname()[1] for each in listeners.values())
        relay = suite.relay("--heartbeat", str(heartbeat_s), "--https-port", "0")
        address, names = relay.addresses()[:2]
        near, far = (stack.enter_context(ChaosProxy(address, seed=battery.seed)) for _ in range(2))
        reverse_proxy = suite.reverse_proxy(
            far.address if chaos else address,
            *("-e", f"0:{plain},0:{plain},raw", "--https", f"{NAME}:{behind_name}", *clients),
        )
        entry_point = suite.entry_point(
            near.address if chaos else address, "-r", f"0:{plain}", "--wait", "30", *clients
        )
        public = re.findall(r"(?:^|\s)([\d.]+:\d+) -> ", reverse_proxy.ready())
        port, raw = map(parse_host_port, public)
        stage = Stage(
            *(suite, relay, reverse_proxy, entry_point),
            Door("a route", entry_point.addresses()[0]),
            Door("a port", port),
            Door("a raw port", raw),
            Door("a host name", names, hello),
            *(near, far, listeners, Books([])),
        )
        # What is made once, is made before the books are opened.
        stage.play(
            [
                (door, Plan(number, {"source": 5000, "destination": 5000}))
                for number, door in enumerate(stage.doors)
            ],
            at_once=1,
        )
        stage.books = Books(stage.programs)
        yield stage
        stage.books.balance()


def client_hello(name: str) -> bytes:
    """Return how a TLS client of the host ``name`` begins."""
    context = ssl.create_default_context()
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    return out.read()


def _listener(stack: ExitStack) -> socket.socket:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
    listener.setblocking(False)
    return listener


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
