"""The three programs at three sites of a net, and streams from one end to the other."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from common.addresses import HostPort
from tests.battery.bench import POOL, Battery
from tests.battery.books import Books
from tests.battery.namespaces import Net, PlacedSuite, networked
from tests.battery.talks import Talk, first_stream, joined
from tests.programs.harness import DEADLINE_S, Program

PORT = 4433
"""The relay's: a site has all ports for itself."""
PUBLIC = 8080
"""What is exposed."""


class Reach:
    """A net with the sites ``relay``, ``exit`` and ``entry``, and the program that belongs there.

    Args:
        relay: how the clients call the relay; by its IPv4 address unless something else is said.

    Attributes:
        entrance: where a source connects, beside the entry-point.
    """

    relay: Program
    reverse_proxy: Program
    entry_point: Program
    entrance: HostPort

    def __init__(
        self,
        battery: Battery,
        net: Net,
        suite: PlacedSuite,
        *,
        heartbeat_s: float = 0.5,
        relay: str = "",
    ) -> None:
        self.net, self.suite = net, suite
        self.heartbeat_s = heartbeat_s
        self._listener = net["exit"].run(lambda: socket.create_server(("127.0.0.1", 0)))
        self._battery = battery
        address = HostPort(relay or net["relay"].v4, PORT)
        self._flags = ("-s", str(address), "--metrics", "127.0.0.1:0", *POOL)

    @property
    def programs(self) -> list[Program]:
        return [self.relay, self.reverse_proxy, self.entry_point]

    def start(self) -> None:
        """Start all three and wait for the first stream."""
        self.start_relay()
        self.start_clients()
        self.first_stream()

    def start_relay(self, site: str = "relay") -> None:
        """Start the relay, for both address families."""
        with self.suite.at(self.net[site]):
            flags = ("--host", "*", "--heartbeat", str(self.heartbeat_s))
            self.relay = self.suite.relay(*flags, port=PORT)

    def start_clients(self) -> None:
        """Start both clients and let them look for the relay."""
        self.start_reverse_proxy()
        self.start_entry_point()

    def start_reverse_proxy(self, *more: str) -> None:
        """Start the reverse-proxy and let it look for the relay."""
        with self.suite.at(self.net["exit"]):
            self.reverse_proxy = self.suite.start("reverse-proxy", *self._flags, *more)

    def start_exposed(self, option: str = "") -> None:
        """Start a relay and a reverse-proxy that exposes the destination, for visitors to enter.

        Args:
            option: of the exposure, such as ``,raw``.
        """
        self.start_relay()
        port = self._listener.getsockname()[1]
        self.start_reverse_proxy("-e", f"{PUBLIC}:{port}{option}")
        self.reverse_proxy.ready()
        self.entrance = HostPort(self.net["relay"].v4, PUBLIC)

    def start_entry_point(self) -> None:
        """Start the entry-point and let it look for the relay."""
        port = self._listener.getsockname()[1]
        route = ("-r", f"0:127.0.0.1:{port}", "--bind", "127.0.0.1")
        with self.suite.at(self.net["entry"]):
            self.entry_point = self.suite.start("entry-point", *self._flags, *route)
        self.entrance = self.entry_point.addresses()[0]

    def end_clients(self) -> None:
        """End both clients and wait until the relay has forgotten them."""
        for each in (self.entry_point, self.reverse_proxy):
            each.kill()
        self.relay.wait_metric("clients", lambda count: count == 0)

    def __enter__(self) -> Reach:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def connect(self) -> socket.socket:
        """Return a new source."""
        to = (self.entrance.host, self.entrance.port)
        return self.net["entry"].run(lambda: socket.create_connection(to, DEADLINE_S))

    @contextmanager
    def pair(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        """Yield both ends of a new stream."""
        with self.connect() as sock, joined(sock, self._listener) as pair:
            yield pair

    @contextmanager
    def talks(self, *names: str) -> Iterator[list[Talk]]:
        """Yield a stream of each name; those called ``busy`` send as fast as it goes."""
        with ExitStack() as stack:
            found = []
            for name in names:
                pair = stack.enter_context(self.pair())
                found.append(Talk(name, *pair, self._battery.random))
                stack.callback(found[-1].let_go)
                if name == "busy":
                    found[-1].talk()
                    found[-1].go_on()
            yield found

    def first_stream(self) -> float:
        """Try until a new stream answers; return the seconds that took."""
        return first_stream(self.connect, self._listener)


@contextmanager
def reach(
    battery: Battery, *more_sites: str, heartbeat_s: float = 0.5, relay: str = ""
) -> Iterator[Reach]:
    """Yield a net whose programs are not started yet."""
    with networked(battery, "relay", "exit", "entry", *more_sites) as (net, suite):
        programs = Reach(battery, net, suite, heartbeat_s=heartbeat_s, relay=relay)
        with programs:
            yield programs


@contextmanager
def reached(battery: Battery, *, heartbeat_s: float) -> Iterator[Reach]:
    """Yield the programs on a net that works; balance their books at the end."""
    with reach(battery, heartbeat_s=heartbeat_s) as programs:
        programs.start()
        books = Books(programs.programs)
        yield programs
        books.balance()
