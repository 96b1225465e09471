"""Programs that are killed, or stopped and go on, idle and busy.

Streams take three ways: a route of an entry-point, an exposed port, and a raw one. A stream is
whole, or its abort is visible at both ends: nothing that was cut short looks complete.
New streams are possible again soon after the program is back.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from common.addresses import HostPort
from tests.battery.bench import Battery
from tests.battery.books import Books
from tests.battery.registry import case
from tests.battery.traffic import ENDLESS, Ledger, Load
from tests.programs.ends import TcpServer, free_port
from tests.programs.harness import Program, Suite, wait_for

BACK_S = 30.0
"""For the first stream after a program is back: some tries of the backoff, and two handshakes; an
idle machine needs a second."""
HEARTBEAT_S = 0.5
"""As the suite's relay says it; after three of them silence is death."""
MUTE_S = 6 * HEARTBEAT_S
"""Stopped for so long, a program is given up by all who know it."""
POOL = ("--pool", "4", "--pool-linger", "1")
ALL_BACK_S = 60.0
"""For the last of a crowd: the longest delay of the backoff, and logins of all."""
MIB = 1 << 20
WORKERS = 12
"""Two with a stream without end, and two others, on each of the three ways."""
VICTIMS = ("relay-server", "reverse-proxy", "entry-point")


@dataclass
class Site:
    """The three programs, each of which can be started again in its place."""

    start: dict[str, Callable[[], Program]]
    entrances: list[HostPort]
    ledger: Ledger
    programs: dict[str, Program] = field(default_factory=dict)
    number: int = 1 << 32  # of streams that are not part of the load

    def settle(self) -> None:
        """Wait until the pools are what they are without streams."""
        self.programs["relay-server"].wait_metric("pairs_open", lambda count: count == 4)
        for gauge in ("links_pending", "visitor_channels"):
            self.programs["reverse-proxy"].wait_metric(gauge, lambda count: count == 4)

    def revive(self, victim: str, books: Books) -> float:
        """Start a program that was killed; return the seconds that took."""
        began = time.monotonic()
        successor = self.start[victim]()
        books.succeed(self.programs[victim], successor)
        self.programs[victim] = successor
        return time.monotonic() - began

    def first_stream(self, since: float) -> float:
        """Return the seconds from ``since`` until a new stream has been whole on every way."""
        for entrance in self.entrances:

            def whole(entrance: HostPort = entrance) -> bool:
                self.number += 1
                return self.ledger.visit(entrance, self.number, 64, 64)

            wait_for(whole, f"a whole stream by {entrance}", BACK_S)
        return time.monotonic() - since


@contextmanager
def site(battery: Battery, heartbeat_s: float = HEARTBEAT_S) -> Iterator[Site]:
    """Start all three on ports that they find again."""
    ledger = Ledger()
    with battery.suite() as suite, TcpServer(ledger.serve) as destination:
        ports = [free_port() for _ in range(4)]
        here = Site(
            _starters(suite, ports, destination.address, heartbeat_s),
            [HostPort("127.0.0.1", each) for each in ports[1:]],
            ledger,
        )
        for name, start in here.start.items():
            here.programs[name] = start()
        here.first_stream(time.monotonic())
        here.settle()
        yield here
        ledger.check()


def _starters(
    suite: Suite, ports: list[int], destination: HostPort, heartbeat_s: float
) -> dict[str, Callable[[], Program]]:
    relay_port, entry_port, exposed, raw = ports
    relay = HostPort("127.0.0.1", relay_port)
    exposures = ("-e", f"{exposed}:{destination}", "-e", f"{raw}:{destination},raw")
    return {
        "relay-server": lambda: suite.relay("--heartbeat", str(heartbeat_s), port=relay_port),
        "reverse-proxy": lambda: suite.reverse_proxy(relay, *exposures, *POOL),
        "entry-point": lambda: suite.entry_point(
            relay, "-r", f"{entry_port}:{destination}", *POOL, channels=0
        ),
    }


@contextmanager
def busy(battery: Battery, here: Site, ways: int) -> Iterator[None]:
    """Keep streams running, of any size; on the first ``ways`` half of them are without end.

    Those must have been aborted when the block ends.
    """
    workers = battery.size(quick=WORKERS, full=2 * WORKERS)
    # One for each: whose turn it is, is not in the seed.
    chances = [Random(battery.random.randbytes(16)) for _ in range(workers)]
    endless = {each for each in range(1, workers, 2) if each // 2 % len(here.entrances) < ways}
    count = len(endless)

    def sizes(worker: int) -> tuple[int, int]:
        if worker in endless:
            endless.remove(worker)
            return ENDLESS, ENDLESS
        return chances[worker].randrange(MIB), chances[worker].randrange(MIB)

    here.ledger.endless.clear()
    load = Load(here.ledger, here.entrances, workers, sizes)
    try:
        wait_for(
            lambda: (
                len(here.ledger.endless) == 2 * count
                and all(each > MIB // 4 for each in here.ledger.endless.values())
            ),
            "streams without end run",
        )
        yield
        wait_for(lambda: not here.ledger.endless, "streams without end are aborted at both ends")
    finally:
        load.finish()


def told(ledger: Ledger) -> str:
    return (
        f"{ledger.ends['whole']:,} directions whole, {ledger.ends['aborted']:,} visibly aborted,"
        f" {ledger.moved / MIB:,.0f} MiB"
    )


def worst(seconds: list[float]) -> str:
    """Return the middle and the worst of some durations."""
    ordered = sorted(seconds)
    return f"{ordered[len(ordered) // 2]:.2f} s (worst {ordered[-1]:.2f})"


def killed(battery: Battery, victim: str, *, load: bool) -> str:
    """Kill a program again and again; return how soon streams were possible."""
    ways = 1 if victim == "entry-point" else 3
    after_kill, after_start = [], []
    with site(battery) as here:
        books = Books(here.programs.values())

        def kill() -> None:
            here.programs[victim].signal(signal.SIGKILL)
            struck = time.monotonic()
            here.programs[victim].wait()
            here.revive(victim, books)
            ready = time.monotonic()
            after_start.append(here.first_stream(ready))
            after_kill.append(time.monotonic() - struck)

        for _ in range(battery.size(quick=1, full=5)):
            if load:
                with busy(battery, here, ways):
                    kill()
            else:
                kill()
            here.ledger.check()
        books.balance()
    figure = f"streams {worst(after_start)} after it was ready, {worst(after_kill)} after the kill"
    return f"{figure}; {told(here.ledger)}" if load else figure


def stopped(battery: Battery, victim: str, *, load: bool) -> str:
    """Stop a program until all have given it up, and let it go on.

    Raw streams have no heartbeat of ours: they may survive it, and must be whole then.
    """
    ways = 1 if victim == "entry-point" else 2
    seconds = []
    with site(battery) as here:
        books = Books(here.programs.values())

        def stop() -> None:
            here.programs[victim].signal(signal.SIGSTOP)
            until = time.monotonic() + battery.size(quick=1, full=5) * MUTE_S
            wait_for(lambda: time.monotonic() > until, "the time of silence", 2 * MUTE_S * 5)
            here.programs[victim].signal(signal.SIGCONT)
            seconds.append(here.first_stream(time.monotonic()))

        for _ in range(battery.size(quick=1, full=3)):
            if load:
                with busy(battery, here, ways):
                    stop()
            else:
                stop()
            here.ledger.check()
        books.balance()
    figure = f"streams {worst(seconds)} after SIGCONT"
    return f"{figure}; {told(here.ledger)}" if load else figure


def hesitated(battery: Battery, victim: str) -> str:
    """Stop a program for less than it takes to be given up: no stream may notice."""
    rounds = battery.size(quick=2, full=10)
    with site(battery, 4 * HEARTBEAT_S) as here:
        books = Books(here.programs.values())
        size = battery.size(quick=16, full=32) * MIB
        aborted = here.ledger.ends["aborted"]
        load = Load(here.ledger, here.entrances, battery.size(6, 18), lambda _: (size, size))
        for _ in range(rounds):
            moved = here.ledger.moved
            wait_for(
                lambda moved=moved: here.ledger.moved > moved + 4 * MIB,  # type: ignore[misc]
                "the load runs",
            )
            here.programs[victim].signal(signal.SIGSTOP)
            until = time.monotonic() + HEARTBEAT_S
            wait_for(lambda until=until: time.monotonic() > until, "a heartbeat")  # type: ignore[misc]
            here.programs[victim].signal(signal.SIGCONT)
        load.finish()
        here.ledger.check()
        assert here.ledger.ends["aborted"] == aborted, told(here.ledger)
        books.balance()
    return f"{rounds} times {HEARTBEAT_S:g} s: {told(here.ledger)}"


@case("kill -9: relay-server, busy", quick=False)
def relay_busy(battery: Battery) -> str:
    return killed(battery, "relay-server", load=True)


@case("kill -9: reverse-proxy, busy")
def reverse_proxy_busy(battery: Battery) -> str:
    return killed(battery, "reverse-proxy", load=True)


@case("kill -9: entry-point, busy", quick=False)
def entry_point_busy(battery: Battery) -> str:
    return killed(battery, "entry-point", load=True)


@case("kill -9: each program, idle", quick=False)
def each_idle(battery: Battery) -> str:
    return "; ".join(f"{each}: {killed(battery, each, load=False)}" for each in VICTIMS)


@case("SIGSTOP: relay-server, busy")
def relay_stopped(battery: Battery) -> str:
    return stopped(battery, "relay-server", load=True)


@case("SIGSTOP: reverse-proxy, busy", quick=False)
def reverse_proxy_stopped(battery: Battery) -> str:
    return stopped(battery, "reverse-proxy", load=True)


@case("SIGSTOP: entry-point, busy", quick=False)
def entry_point_stopped(battery: Battery) -> str:
    return stopped(battery, "entry-point", load=True)


@case("SIGSTOP: each program, idle", quick=False)
def each_stopped_idle(battery: Battery) -> str:
    return "; ".join(f"{each}: {stopped(battery, each, load=False)}" for each in VICTIMS)


@case("SIGSTOP: each program, for a quarter of a heartbeat only", quick=False)
def each_hesitated(battery: Battery) -> str:
    return "; ".join(f"{each}: {hesitated(battery, each)}" for each in VICTIMS)


def herd(battery: Battery, count: int, down_s: float, sources: int) -> str:
    """Take the relay away from many clients at ``sources`` addresses; tell how they come back."""
    with battery.suite() as suite:
        port = free_port()
        patient = ("--heartbeat", "10")  # the default: the crowd's loop is a busy one
        relay = suite.relay(*patient, port=port)
        empty = Books([relay])
        crowd = suite.start(
            "tests.battery.crowd", f"127.0.0.1:{port}", str(count), "8", str(sources)
        )
        crowd.ready()
        pairs = count // 2 * 8
        relay.wait_metric("pairs_open", lambda open_: open_ == pairs, 120)
        relay.wait_metric("clients", lambda there: there == count)
        relay.wait_metric("links_pending", lambda count: count == pairs, 120)
        full = Books([relay, crowd])
        lines = len(crowd.lines)
        relay.signal(signal.SIGKILL)
        relay.wait()
        until = time.monotonic() + down_s
        wait_for(lambda: time.monotonic() > until, "the end of the outage", down_s + 5)
        earliest = time.monotonic() + 0.1  # no program starts so fast: what comes before was said
        successor = suite.relay(*patient, port=port)  # by the relay that is dead
        began = time.monotonic()
        for books in (empty, full):
            books.succeed(relay, successor)
        relay = successor

        def back() -> list[float]:
            words = [line.split() for line in crowd.lines[lines:]]
            first: dict[str, float] = {}
            for _, client, moment in (each for each in words if each[0] == "login"):
                if float(moment) > earliest:
                    first.setdefault(client, float(moment) - began)
            return sorted(first.values())

        wait_for(lambda: len(back()) >= count, "all have the relay again", ALL_BACK_S)
        relay.wait_metric("pairs_open", lambda open_: open_ == pairs, 120)
        healed = time.monotonic() - began
        evicted = relay.metric("connections_evicted")
        begun = min(0.0, *back())  # it may take a while until its ready line is read
        seconds = [each - begun for each in back()]
        together = max(sum(1 for each in seconds if start <= each < start + 1) for start in seconds)
        places = f"{sources} address{'es' * (sources > 1)}"
        figure = (
            f"{count} clients at {places}, {pairs} channels; the first back {seconds[0]:.1f} s,"
            f" half {seconds[count // 2]:.1f} s, all {seconds[-1]:.1f} s after it, all channels"
            f" {healed:.1f} s; {evicted:.0f} evicted; at most {together} within"
            f" a second; in each: {histogram(seconds)}"
        )
        assert evicted == 0 or sources == 1, figure
        assert down_s < 5 or together <= max(count // 3, 6), figure
        full.balance()
        crowd.kill()
        empty.balance()
    return figure


def histogram(seconds: list[float]) -> str:
    """Return how many came back in each second."""
    counts = [0] * (max(int(seconds[-1]), 0) + 1)
    for each in seconds:
        counts[max(int(each), 0)] += 1
    return " ".join(map(str, counts))


@case("relay down: many clients come back, spread by chance", quick=False)
def relay_down(battery: Battery) -> str:
    count = battery.size(quick=10, full=200)
    return herd(battery, count, battery.size(quick=5, full=60), sources=count)


@case("relay down: many clients come back at once", quick=False)
def relay_restarted(battery: Battery) -> str:
    count = battery.size(quick=10, full=200)
    return herd(battery, count, 0, sources=count)


@case("relay down: many clients of one address come back at once", quick=False)
def relay_restarted_for_neighbours(battery: Battery) -> str:
    return herd(battery, battery.size(quick=20, full=200), 0, sources=1)
