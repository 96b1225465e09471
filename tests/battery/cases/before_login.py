"""Attackers who have no key: what they cost a legitimate client, and what they leave behind.

The attackers are a program of its own (``tests.battery.attackers``) and come back whenever the
relay has had enough of them. The legitimate client is on the same machine and, for one address of
eight, behind the same address. All streams go through channels that exist, as they do in practice;
a login is what a client needs for a new channel.
"""

from __future__ import annotations

import os
import resource
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from common.addresses import HostPort
from common.wire import Welcome
from tests.battery.bench import Battery
from tests.battery.books import Books
from tests.battery.registry import case
from tests.battery.siege import attackers
from tests.programs.ends import TcpServer, connected, echo
from tests.programs.evil_client import dial
from tests.programs.harness import DEADLINE_S, Program, Suite

STREAM_S, LOGIN_S = 1.0, 3.0
"""What the slowest of a hundred may take under attack; without one it is some milliseconds. The
machine also runs the attackers and all three programs."""
LINES_AT_ONCE, LINES_A_SECOND = 25, 3.0
"""Log lines of an attack: five of each kind in ten seconds, and a summary."""
POOL = ("--pool", "4", "--pool-linger", "1")
"""One stream after the other never asks for a fifth, so the books begin with four."""
PAUSE_S = 0.002
"""Between two streams: who measures must not be the load."""


@dataclass
class Ground:
    """The programs that are attacked."""

    suite: Suite
    relay: Program
    entrance: HostPort
    books: Books


@dataclass
class Times:
    """How long a legitimate client waited, in seconds."""

    streams: list[float] = field(default_factory=list)
    logins: list[float] = field(default_factory=list)
    again: int = 0
    """Logins that had to be tried again: thrown out for a newer stranger of the same address."""

    def __str__(self) -> str:
        return f"stream {spread(self.streams)}, login {spread(self.logins)}"


def spread(seconds: list[float]) -> str:
    return f"{quantile(seconds, 0.5) * 1000:.1f}/{quantile(seconds, 0.99) * 1000:.0f} ms"


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


@contextmanager
def ground(battery: Battery) -> Iterator[Ground]:
    """Start the three programs without anything between them; balance the books at the end."""
    with battery.suite() as suite, TcpServer(echo) as server:
        relay = suite.relay("--heartbeat", "2")
        reverse_proxy = suite.reverse_proxy(relay, *POOL)
        entry_point = suite.entry_point(relay, "-r", f"0:{server.address}", *POOL, channels=4)
        entrance = entry_point.addresses()[0]
        for _ in range(10):
            one_stream(entrance)
        one_login(suite, relay, Times())
        relay.wait_metric("pairs_open", lambda count: count == 4)
        books = Books([relay, reverse_proxy, entry_point])
        yield Ground(suite, relay, entrance, books)
        books.balance()


def one_stream(entrance: HostPort) -> float:
    """Return the seconds from the dial of a new stream to the answer to its first 64 bytes."""
    began = time.monotonic()
    with connected(entrance) as sock:
        sock.sendall(bytes(64))
        left = 64
        while left:
            part = sock.recv(left)
            assert part, "the stream ended"
            left -= len(part)
    return time.monotonic() - began


def one_login(suite: Suite, relay: Program, times: Times) -> None:
    """Add the seconds from a client's first dial to WELCOME, as often as it has to dial."""
    began = time.monotonic()
    while time.monotonic() < began + DEADLINE_S:
        with (
            suppress(ConnectionError, ssl.SSLError),
            dial(suite, relay) as client,
        ):
            if isinstance(client.login("entry-point", "nobody else"), Welcome):
                times.logins.append(time.monotonic() - began)
                return
        times.again += 1
    raise AssertionError(f"no login within {DEADLINE_S:g} s")


def measure(here: Ground, seconds: float, in_force: Callable[[], bool] = lambda: True) -> Times:
    """Be a legitimate client: ten streams, a login, and again.

    Args:
        seconds: for so long.
        in_force: and until this is true, as far as it ever is.
    """
    times = Times()
    began = time.monotonic()
    while True:
        for _ in range(10):
            times.streams.append(one_stream(here.entrance))
            time.sleep(PAUSE_S)
        one_login(here.suite, here.relay, times)
        wanted = seconds if in_force() else seconds + DEADLINE_S
        if time.monotonic() > began + wanted:
            return times


def cpu_seconds(program: Program) -> float:
    """Return the processor time that a program has used."""
    with open(f"/proc/{program.pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def besieged(battery: Battery, kind: str, count: int, sources: int = 8, key: str = "") -> str:
    """Measure a legitimate client before and during an attack; return the figure."""
    with ground(battery) as here:
        relay = here.relay
        calm = measure(here, battery.size(quick=1, full=5))
        lines, worked, began = len(relay.lines), cpu_seconds(relay), time.monotonic()
        crowd = attackers(here.suite, relay, kind, count, sources, key=key, seed=battery.seed)
        with crowd as attack:
            during = measure(here, battery.size(quick=2, full=20), attack.in_force)
        seconds = time.monotonic() - began
        worked = (cpu_seconds(relay) - worked) / seconds
        told = len(relay.lines) - lines
        strangers, growth = attack.strangers, attack.growth_kib
        rate = attack.tried / seconds
        figure = (
            f"{attack.tried:,} from {sources} address{'es' * (sources > 1)} ({rate:,.0f}/s),"
            f" relay {worked:.0%} of a core; p50/p99 of a stream {spread(calm.streams)}"
            f" -> {spread(during.streams)}, of a login {spread(calm.logins)}"
            f" -> {spread(during.logins)}; {strangers} strangers, +{growth} KiB"
            f" ({growth / max(strangers, 1):.1f} each); {told / seconds:.1f} log lines a second;"
            " all places given back"
        )
        attack.check(figure)
        assert quantile(during.streams, 0.99) < STREAM_S, figure
        assert quantile(during.logins, 0.99) < LOGIN_S, figure
        assert told < LINES_AT_ONCE + LINES_A_SECOND * seconds, figure
        assert "Traceback" not in relay.log, relay.log
    return figure


@case("before login: silent connections")
def silent(battery: Battery) -> str:
    return besieged(battery, "silent", battery.size(quick=500, full=2500), sources=20)


@case("before login: more silent connections than one address has places", quick=False)
def silent_neighbours(battery: Battery) -> str:
    return besieged(battery, "silent", battery.size(quick=300, full=1000), sources=1)


@case("before login: one byte a second", quick=False)
def drops(battery: Battery) -> str:
    return besieged(battery, "drip", battery.size(quick=300, full=2000), sources=20)


@case("before login: a ClientHello, and then silence", quick=False)
def stuck(battery: Battery) -> str:
    return besieged(battery, "stuck", battery.size(quick=300, full=2000), sources=20)


@case("before login: garbage", quick=False)
def garbage(battery: Battery) -> str:
    return besieged(battery, "garbage", battery.size(quick=200, full=1000))


@case("before login: handshakes without a key", quick=False)
def hellos(battery: Battery) -> str:
    return besieged(battery, "hello", 100)


@case("before login: logins with a key that nobody knows", quick=False)
def unknown(battery: Battery) -> str:
    return besieged(battery, "login", 50)


@case("before login: handshakes abandoned at any byte")
def churn(battery: Battery) -> str:
    return besieged(battery, "churn", 100, key="auth")


@case("before login: more silent connections than descriptors", quick=False)
def few_descriptors(battery: Battery) -> str:
    """A relay that may have 256 keeps most of them for those who have logged in."""
    count = battery.size(quick=500, full=1000)
    with battery.suite() as suite:
        relay = suite.start(
            "relay-server", "--host", "127.0.0.1", "-p", "0", "--metrics", "127.0.0.1:0"
        )
        resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (256, 256))  # before it asks
        relay.ready()
        one_login(suite, relay, Times())
        books = Books([relay])
        with attackers(suite, relay, "silent", count, sources=20) as attack:
            relay.wait_metric("connections_evicted", lambda gone: gone > 100)
            times = Times()
            for _ in range(battery.size(quick=20, full=200)):
                one_login(suite, relay, times)
            strangers, held = relay.metric("strangers"), relay.descriptors()
        books.balance()
        figure = (
            f"256 descriptors, {attack.tried:,} connections: at most {strangers:.0f} strangers,"
            f" {held} descriptors; p50/p99 of a login {spread(times.logins)}, {times.again} again"
        )
        assert 32 <= strangers <= 64, figure
        assert "cannot accept" not in relay.log, relay.log
        assert quantile(times.logins, 0.99) < LOGIN_S, figure
    return figure


@case("before login: out of descriptors", quick=False)
def no_descriptors(battery: Battery) -> str:
    """Streams go on; whoever comes waits, and comes in as soon as the crowd has gone."""
    count = battery.size(quick=200, full=1000)
    with ground(battery) as here:
        relay = here.relay
        calm = measure(here, 1)
        limits = resource.prlimit(relay.pid, resource.RLIMIT_NOFILE)
        room = relay.descriptors() + 10
        resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (room, limits[1]))
        lines, worked, streams = len(relay.lines), cpu_seconds(relay), []
        began = time.monotonic()
        with attackers(here.suite, relay, "silent", count, sources=8):
            relay.wait_log("cannot accept connections")
            until = time.monotonic() + battery.size(quick=2, full=20)
            while time.monotonic() < until:
                streams.append(one_stream(here.entrance))
                time.sleep(0.02)
        seconds = time.monotonic() - began
        worked = (cpu_seconds(relay) - worked) / seconds
        told = len(relay.lines) - lines
        after = Times()
        one_login(here.suite, relay, after)
        figure = (
            f"10 descriptors for {count} attackers: p50/p99 of a stream {spread(calm.streams)} ->"
            f" {spread(streams)}; relay {worked:.0%} of a core, {told / seconds:.1f} log"
            f" lines a second; first login {after.logins[0]:.2f} s after they have gone"
        )
        resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, limits)
        assert quantile(streams, 0.99) < STREAM_S, figure
        assert worked < 0.5, figure  # it does not spin
        assert told < LINES_AT_ONCE + LINES_A_SECOND * seconds, figure
        assert after.logins[0] < count / 150 + 1, figure  # each pause lets ten of the dead in
    return figure
