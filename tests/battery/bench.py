"""What a case works with: sizes, a seed, programs, and the paths between them."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket

from common.addresses import HostPort
from tests.battery.books import Books
from tests.battery.chaos import ChaosProxy
from tests.programs.ends import TcpServer, connected, echo
from tests.programs.harness import Program, Suite

POOL = ("--pool", "2", "--pool-linger", "1")
"""Small, and soon small again: books are balanced in seconds."""


@dataclass
class Chain:
    """The three programs, a destination, and the two paths to the relay.

    Attributes:
        entrance: where a source connects.
        near: the path between the entry-point and the relay.
        far: the path between the reverse-proxy and the relay.
        books: balanced when the case ends; open new ones if programs are started again.
    """

    suite: Suite
    relay: Program
    reverse_proxy: Program
    entry_point: Program
    entrance: HostPort
    near: ChaosProxy
    far: ChaosProxy
    destination: TcpServer
    books: Books | None = None

    @property
    def programs(self) -> list[Program]:
        return [self.relay, self.reverse_proxy, self.entry_point]

    def check(self, size: int = 4096) -> None:
        """Send ``size`` bytes through a new stream to a destination that echoes, and back."""
        sent = random.Random(size).randbytes(size)
        with connected(self.entrance) as sock:
            sock.sendall(sent)
            got = b""
            while len(got) < size:
                part = sock.recv(size)
                assert part, f"an end after {len(got)} of {size} bytes"
                got += part
            assert got == sent


class Battery:
    """One run of one case.

    Attributes:
        quick: whether ``size`` gives the small sizes.
        seed: what ``random`` began with; printed, so that a run can be repeated.
        random: the case's only source of chance.
        soak_minutes: how long the soak takes at full size.
    """

    def __init__(self, *, quick: bool, seed: int, soak_minutes: float = 20) -> None:
        self.quick, self.seed, self.soak_minutes = quick, seed, soak_minutes
        self.random = random.Random(seed)

    def size(self, quick: int, full: int) -> int:
        """Return the size for this run."""
        return quick if self.quick else full

    @contextmanager
    def suite(self) -> Iterator[Suite]:
        """Yield keys and a directory for programs; they are ended with the block."""
        with (
            tempfile.TemporaryDirectory(prefix="battery-") as directory,
            Suite(Path(directory)) as suite,
        ):
            try:
                yield suite
            except BaseException:
                suite.tell()
                raise

    @contextmanager
    def chain(
        self,
        serve: Callable[[socket], None] = echo,
        *,
        relay: tuple[str, ...] = (),
        clients: tuple[str, ...] = POOL,
    ) -> Iterator[Chain]:
        """Start all three with a chaos proxy on both paths; balance the books at the end.

        Args:
            serve: what the destination does with each connection.
            relay: more flags of the relay-server.
            clients: flags of both clients.
        """
        with ExitStack() as stack:
            suite = stack.enter_context(self.suite())
            destination = stack.enter_context(TcpServer(serve))
            relay_server = suite.relay(*relay)
            paths = [
                stack.enter_context(ChaosProxy(relay_server.addresses()[0], seed=self.seed))
                for _ in range(2)
            ]
            near, far = paths
            reverse_proxy = suite.reverse_proxy(far.address, *clients)
            entry_point = suite.entry_point(
                near.address, "-r", f"0:{destination.address}", *clients
            )
            entrance = entry_point.addresses()[0]
            chain = Chain(
                *(suite, relay_server, reverse_proxy, entry_point),
                *(entrance, near, far, destination),
            )
            chain.check()  # what is made once, is made before the books are opened
            chain.books = Books(chain.programs)
            yield chain
            if chain.books:
                chain.books.balance()
