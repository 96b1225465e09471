"""What the programs stand on: the name service, the two address families, the clock."""

from __future__ import annotations

import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from common.addresses import HostPort
from tests.battery.bench import POOL, Battery
from tests.battery.books import Books, held, steady
from tests.battery.certificates import pinned
from tests.battery.clock import ClockedSuite
from tests.battery.names import AAAA, A, NameServer
from tests.battery.reach import Reach, reach
from tests.battery.registry import case
from tests.battery.talks import Talk
from tests.programs.ends import Destination, TcpServer, connected, echo
from tests.programs.harness import Program, wait_for

NAME = "relay.battery.test"
HEARTBEAT_S = 1.0
HOUR_S = 3600
SLACK_S = 2.0
"""For a machine that is busy with other things."""


@contextmanager
def named(battery: Battery, *more_sites: str) -> Iterator[tuple[Reach, NameServer]]:
    """Yield programs that know the relay by its name, with both of its addresses."""
    with (
        reach(battery, *more_sites, relay=NAME) as programs,
        NameServer(programs.net["exit"], programs.net["entry"]) as names,
    ):
        relay = programs.net["relay"]
        names.records[NAME] = [relay.v4, relay.v6]
        yield programs, names


@case("names: the relay's name fails, and comes back", quick=False, deadline_s=120)
def name_fails(battery: Battery) -> str:
    """Clients begin without it and go on trying; streams do not need it; a lost relay does."""
    with named(battery) as (programs, names):
        programs.start_relay()
        names.failing = True
        programs.start_clients()
        clients = [programs.reverse_proxy, programs.entry_point]
        for each in clients:
            each.wait_log(f"cannot resolve the relay's name {NAME}: Temporary failure in name")
        names.failing = False
        first_s = programs.first_stream()
        books = Books(programs.programs)
        names.failing = True
        with programs.talks("busy", "idle") as (busy, idle):
            idle.talk()
            busy.go_on()
            idle.go_on()
            carried = busy.finish() + idle.finish()
        lost_relay = programs.relay
        with programs.talks("idle") as (lost,):
            lost_relay.signal(signal.SIGKILL)
            lost.aborted_after(time.monotonic(), SLACK_S)
        programs.start_relay()
        books.succeed(lost_relay, programs.relay)
        for each in clients:
            seen = each.metric("failures")
            each.wait_metric("failures", lambda now, seen=seen: now > seen)  # type: ignore[misc]
        names.failing = False
        again_s = programs.first_stream()
        books.balance()
    return (
        f"a stream {first_s:.1f} s after the name came, {carried / 1e6:.0f} MB while it was gone,"
        f" and {again_s:.1f} s after it came back to a new relay"
    )


@case("names: the name server is silent", quick=False)
def name_server_silent(battery: Battery) -> str:
    """The message says so; a client ends although a question is open; an answer is enough.

    Clients that have been through it hold what those did that had a name from the beginning.
    """
    with named(battery) as (programs, names):
        programs.start()
        before, books = programs.programs, Books(programs.programs)
        programs.end_clients()
        names.silent = frozenset({A, AAAA})
        programs.start_clients()
        for each in (programs.reverse_proxy, programs.entry_point):
            each.wait_log(f"cannot resolve the relay's name {NAME}: no answer within 8 s")
        programs.entry_point.signal(signal.SIGTERM)
        begin = time.monotonic()
        assert programs.entry_point.wait(10) == 0
        end_s = time.monotonic() - begin
        names.silent = frozenset()
        programs.start_entry_point()
        first_s = programs.first_stream()
        for old, new in zip(before[1:], programs.programs[1:], strict=True):
            books.succeed(old, new)
        books.balance()
    return f"a client ended in {end_s:.1f} s; a stream {first_s:.1f} s after the name came"


@case("names: an answer for one family only", quick=False)
def half_silent(battery: Battery) -> str:
    """The name server does not answer for the other one at all, as broken ones do."""
    times = []
    with named(battery) as (programs, names):
        programs.start()
        books = Books(programs.programs)
        for kind, name in ((AAAA, "AAAA"), (A, "A"))[: battery.size(quick=1, full=2)]:
            before = programs.programs
            programs.end_clients()
            names.silent = frozenset({kind})
            programs.start_clients()
            first_s = programs.first_stream()
            assert first_s < 8, f"the first stream took {first_s:.1f} s"
            times.append(f"no {name}: {first_s:.1f} s")
            for old, new in zip(before[1:], programs.programs[1:], strict=True):
                books.succeed(old, new)
            books.balance()
    return f"from the start to the first stream, {', '.join(times)}"


@case("names: the relay moves to another address", quick=False)
def relay_moves(battery: Battery) -> str:
    """The machine is gone without a word; another one has its name, key and certificate."""
    with named(battery, "other") as (programs, names):
        programs.start()
        first, books = programs.relay, Books(programs.programs)
        with programs.talks("idle", "busy") as talks:
            programs.net.unplug(programs.net["relay"])
            begin = time.monotonic()
            other = programs.net["other"]
            names.records[NAME] = [other.v4]
            programs.start_relay("other")
            books.succeed(first, programs.relay)
            limit_s = 3 * programs.heartbeat_s + SLACK_S
            for each in talks:
                each.aborted_after(begin, limit_s)
        first_s = programs.first_stream()
        total_s = time.monotonic() - begin
        books.balance()
    return f"a stream over the new one {total_s:.1f} s after the move ({first_s:.1f} s waited for)"


@case("families: one is dead", quick=False)
def dead_family(battery: Battery) -> str:
    """Dead from the start, with and without a word, and while it is used."""
    times = []
    with named(battery) as (programs, _):
        net = programs.net
        programs.start_relay()
        relay_books = Books([programs.relay])
        ways = [(6, "blackhole"), (6, "unreachable"), (4, "blackhole"), (4, "unreachable")]
        for family, how in ways[: battery.size(quick=1, full=4)]:
            for site in ("exit", "entry"):
                net.drop(net[site], net["relay"], (family,), how)
            programs.start_clients()
            first_s = programs.first_stream()
            times.append(f"IPv{family} {how} {first_s:.1f} s")
            net.heal()
            programs.end_clients()
        relay_books.balance()
        programs.start_clients()
        programs.first_stream()
        books = Books(programs.programs)
        for family in (6, 4):  # IPv6 is preferred; once it is lost, IPv4 is in use
            with programs.talks("idle") as (lost,):
                for site in ("exit", "entry"):
                    net.drop(net[site], net["relay"], (family,))
                lost.aborted_after(time.monotonic(), 3 * programs.heartbeat_s + SLACK_S)
            times.append(f"IPv{family} while used {programs.first_stream():.1f} s")
            net.heal()
        books.balance()
    return f"the first stream: {', '.join(times)}"


@case("clock: jumps of hours, days and years", quick=False, deadline_s=120)
def clock_jumps(battery: Battery) -> str:
    """No heartbeat or deadline goes by it; only what has a date notices, and says so."""
    hours = [5, -5, 48, -48, 0][: battery.size(quick=2, full=5)]
    with clocked(battery) as (suite, entry_point, entrance, destination):
        clients = suite.programs[1:]
        books = Books(suite.programs)
        with ExitStack() as stack:
            pairs = [stack.enter_context(destination.stream(entrance[1])) for _ in range(2)]
            busy, idle = (Talk("long", *pair, battery.random) for pair in pairs)
            busy.talk()
            rest = {each: steady(each) for each in clients}
            for each in hours:
                calm_after(rest, lambda each=each: suite.set_ahead(each * HOUR_S))  # type: ignore[misc]
                busy.go_on()
                log_in_anew(entry_point, entrance[0])
                wait_for(
                    lambda each=each: abs(off_by(entry_point, each)) < 60,  # type: ignore[misc]
                    f"the clock shows {off_by(entry_point, each):.0f} s too much",
                )
            for years, words in (
                (2, "has expired; make a new one"),
                (-2, "is not yet valid; this"),
            ):
                suite.set_ahead(years * 8766 * HOUR_S)
                with crowd(entry_point, entrance[0]):
                    entry_point.wait_log(f"verify failed: certificate {words}")
            idle.talk()
            busy.go_on()
            idle.go_on()
            carried = busy.finish() + idle.finish()
        suite.set_ahead(0)
        begin = time.monotonic()
        log_in_anew(entry_point, entrance[0])
        right_s = time.monotonic() - begin
        books.balance()
    jumps = ", ".join(f"{each:+} h" for each in hours)
    return (
        f"{jumps}, two years either way: no stream lost, {carried / 1e6:.0f} MB;"
        f" new links {right_s:.1f} s after the clock was right"
    )


@contextmanager
def clocked(
    battery: Battery,
) -> Iterator[tuple[ClockedSuite, Program, list[HostPort], Destination]]:
    """Yield programs with a clock of their own, which lead to an echo and to a destination."""
    with (
        tempfile.TemporaryDirectory(prefix="battery-") as directory,
        closing(ClockedSuite(Path(directory))) as suite,
        TcpServer(echo) as server,
        Destination() as destination,
    ):
        try:
            pinned(suite, "server", ago=timedelta(days=30))
            relay = suite.relay("--heartbeat", str(HEARTBEAT_S))
            suite.reverse_proxy(relay, *POOL)
            routes = ("-r", f"0:{server.address},0:{destination.address}")
            entry_point = suite.entry_point(relay, *routes, *POOL)
            with connected(entry_point.addresses()[0]) as sock:
                sock.sendall(b"!")
                assert sock.recv(1) == b"!"
            yield suite, entry_point, entry_point.addresses(), destination
        except BaseException:
            suite.tell()
            raise


def calm_after(rest: dict[Program, dict[str, float]], jump: Callable[[], None]) -> None:
    """Fail if any stream, link or channel is lost within four heartbeats of ``jump``.

    Args:
        rest: what each client holds while there is no crowd.
    """

    def losses() -> list[float]:
        names = ("streams_failed", "failures", "channels_closed")
        return [each.metric(name) for each in rest for name in names]

    def crowd_is_gone() -> bool:
        now = {each: held(each) for each in rest}
        return all(
            now[each].get(name) == was.get(name)
            for each, was in rest.items()
            for name in ("channels", "channels_idle", "streams_open", "links_pending")
        )

    wait_for(crowd_is_gone, "the channels that a crowd needed are closed", step_s=0.1)
    before = losses()
    jump()
    threading.Event().wait(4 * HEARTBEAT_S)  # the time for what must not happen
    assert losses() == before, f"streams, links, channels: {before} -> {losses()}"


@contextmanager
def crowd(entry_point: Program, entrance: HostPort) -> Iterator[None]:
    """Hold more streams at once than there are channels, those of an earlier crowd too."""
    now = entry_point.metrics()
    with ExitStack() as stack:
        for _ in range(int(now["channels_idle"] + now["streams_open"]) + 6):
            stack.enter_context(connected(entrance))
        yield


def log_in_anew(entry_point: Program, entrance: HostPort) -> None:
    """Need more channels than there are until new ones are made."""
    seen = entry_point.metric("logins")
    with crowd(entry_point, entrance):
        entry_point.wait_metric("logins", lambda now: now > seen)


def off_by(program: Program, hours: int) -> float:
    """Return how far the last line of its log is from the time, if that were ``hours`` ahead."""
    lines = re.findall(r"^\S+Z(?= )", program.log, re.MULTILINE)
    return datetime.fromisoformat(lines[-1]).timestamp() - time.time() - hours * HOUR_S
