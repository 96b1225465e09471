"""The network between the programs falls apart and heals: one way or both, early or late."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from common.addresses import HostPort
from tests.battery.bench import POOL, Battery
from tests.battery.books import Books
from tests.battery.namespaces import Net, PlacedSuite, Site, networked
from tests.battery.registry import case
from tests.programs.harness import Destination, Program, wait_for

Hurt = Callable[[Net], None]

WAYS: dict[str, Hurt] = {
    "entry-point to relay": lambda net: net.drop(net["entry"], net["relay"]),
    "relay to reverse-proxy": lambda net: net.drop(net["relay"], net["exit"]),
    "the relay's cable": lambda net: net.unplug(net["relay"]),
    "relay to entry-point": lambda net: net.drop(net["relay"], net["entry"]),
    "reverse-proxy to relay": lambda net: net.drop(net["exit"], net["relay"]),
    "entry-point and relay": lambda net: net.part(net["entry"], net["relay"]),
    "reverse-proxy and relay": lambda net: net.part(net["exit"], net["relay"]),
    "the entry-point's interface": lambda net: net.switch_off(net["entry"]),
    "the reverse-proxy's interface": lambda net: net.switch_off(net["exit"]),
}
"""What is lost. The quick size takes the first three."""

SLACK_S = 1.5
"""For a machine that is busy with other things."""
RING = 1_000_003
"""Bytes after which what a stream carries repeats: a prime, so no offset error goes unseen."""


class End:
    """One end of a stream: sends what was agreed, and compares what it gets.

    Attributes:
        received: how many bytes have come; all of them were right.
        ended: ``end``, ``reset``, or what else it was; empty while the stream goes on.
        ended_at: when.
    """

    def __init__(self, sock: socket.socket, sends: bytes, expects: bytes) -> None:
        sock.settimeout(60)
        self.received = self.sent = 0
        self.ended = ""
        self.ended_at = 0.0
        self._sock, self._sends, self._expects = sock, sends, expects
        self._was_reset = False
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._receive, daemon=True)]
        self._threads[0].start()

    def talk(self) -> None:
        """Send as fast as it goes, until :meth:`finish`."""
        self._threads.append(threading.Thread(target=self._send, daemon=True))
        self._threads[-1].start()

    def finish(self) -> None:
        """Stop sending, with a FIN."""
        self._stop.set()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "an end of a stream neither goes on nor ends"

    def _send(self) -> None:
        ring = memoryview(self._sends * 2)
        try:
            while not self._stop.is_set():
                at = self.sent % RING
                self.sent += self._sock.send(ring[at : at + 65536])
            self._sock.shutdown(socket.SHUT_WR)
        except ConnectionResetError:
            self._was_reset = True  # told once: the receiver may see an end only
        except OSError:
            pass

    def _receive(self) -> None:
        ring = memoryview(self._expects * 2)
        how = "end"
        try:
            while data := self._sock.recv(1 << 18):
                at = self.received % RING
                if data != ring[at : at + len(data)]:
                    how = f"wrong bytes after {self.received}"
                    break
                self.received += len(data)
        except ConnectionResetError:
            how = "reset"
        except OSError as error:
            how = f"{type(error).__name__}: {error}"
        if how == "end" and len(self._threads) > 1 and not self._stop.is_set():
            self._stop.set()
            self._threads[1].join(60)
            how = "reset" if self._was_reset else "end"
        self.ended_at = time.monotonic()
        self.ended = how


@dataclass
class Talk:
    """A stream by its two ends; closed with the block that :meth:`Reach.talk` is for."""

    name: str
    source: End
    destination: End

    @property
    def ends(self) -> tuple[End, End]:
        return self.source, self.destination

    def go_on(self) -> None:
        """Fail unless bytes arrive at both ends from now on."""
        before = [each.received for each in self.ends]

        def more() -> bool:
            for each in self.ends:
                assert not each.ended, f"{self.name} stream: {each.ended}"
            return all(each.received > was for each, was in zip(self.ends, before, strict=True))

        wait_for(more, f"the {self.name} stream goes on")

    def finish(self) -> int:
        """End the stream properly and return how many bytes it carried, all of them right."""
        for each in self.ends:
            each.finish()
        for each, other in (self.ends, self.ends[::-1]):
            each.join()
            assert each.ended == "end", f"{self.name} stream: {each.ended}"
            assert each.received == other.sent, f"{self.name}: {other.sent} -> {each.received}"
        return sum(each.received for each in self.ends)

    def aborted_after(self, since: float, limit_s: float) -> float:
        """Return seconds until both ends were reset; fail if one is not, or looks like an end."""
        for side, each in zip(("source", "destination"), self.ends, strict=True):
            what = f"the {self.name} stream's {side} is told"
            wait_for(lambda each=each: each.ended, what, limit_s)  # type: ignore[misc]
            assert each.ended == "reset", f"{self.name} stream at its {side}: {each.ended}"
        return max(each.ended_at for each in self.ends) - since


class Reach:
    """The three programs at three sites, and a destination beside the reverse-proxy."""

    def __init__(self, net: Net, suite: PlacedSuite, battery: Battery, heartbeat_s: float) -> None:
        self._net, self._battery = net, battery
        self.heartbeat_s = heartbeat_s
        self.destination = net["exit"].run(Destination)
        with suite.at(net["relay"]):
            self.relay = suite.relay("--host", net["relay"].v4, "--heartbeat", str(heartbeat_s))
        address = self.relay.addresses()[0]
        with suite.at(net["exit"]):
            self.reverse_proxy = suite.reverse_proxy(address, *POOL)
        with suite.at(net["entry"]):
            routes = ("-r", f"0:{self.destination.address}")
            self.entry_point = suite.entry_point(address, *routes, *POOL)
        self.entrance = self.entry_point.addresses()[0]
        self.first_stream()

    @property
    def programs(self) -> list[Program]:
        return [self.relay, self.reverse_proxy, self.entry_point]

    @contextmanager
    def pair(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        """Yield both ends of a new stream."""
        with dial(self._net["entry"], self.entrance) as source:
            source.sendall(b"!")
            with self.destination.accept() as destination:
                assert destination.recv(1) == b"!"
                yield source, destination

    @contextmanager
    def talks(self) -> Iterator[list[Talk]]:
        """Yield two streams: one that is idle, and one with as many bytes both ways as go."""
        with ExitStack() as stack:
            found = []
            for name in ("idle", "busy"):
                source, destination = stack.enter_context(self.pair())
                there, back = (self._battery.random.randbytes(RING) for _ in range(2))
                found.append(Talk(name, End(source, there, back), End(destination, back, there)))
            for each in found[1].ends:
                each.talk()
            found[1].go_on()
            yield found

    def first_stream(self) -> float:
        """Try until a new stream answers; return the seconds that took."""
        begin = time.monotonic()

        def answered() -> bool:
            with suppress(OSError), self.pair() as (source, destination):
                destination.sendall(b"?")
                return source.recv(1) == b"?"
            return False

        wait_for(answered, "a new stream", 90)
        return time.monotonic() - begin


def dial(site: Site, address: HostPort) -> socket.socket:
    """Connect from inside a site."""
    return site.run(lambda: socket.create_connection((address.host, address.port), 30))


@contextmanager
def reach(battery: Battery, heartbeat_s: float) -> Iterator[tuple[Net, Reach]]:
    """Yield the programs on a net that works; balance their books at the end."""
    with networked(battery, "relay", "exit", "entry") as (net, suite):
        programs = Reach(net, suite, battery, heartbeat_s)
        with programs.destination:
            books = Books(programs.programs)
            yield net, programs
            books.balance()


def mend(net: Net) -> None:
    """Undo whatever was done by one of :data:`WAYS`."""
    net.heal()
    for name in ("entry", "exit"):
        net.switch_on(net[name])


def some_ways(battery: Battery) -> list[tuple[str, Hurt]]:
    return list(WAYS.items())[: battery.size(quick=3, full=len(WAYS))]


@case("partitions: healed early")
def healed_early(battery: Battery) -> str:
    """TCP makes up for it: no stream notices, nor does a link that waits."""
    carried = 0
    longest = 0.0
    with reach(battery, heartbeat_s=2) as (net, programs):
        lost = ("links_lost", "pairs_ended")
        before = [programs.relay.metric(name) for name in lost]
        for name, hurt in some_ways(battery):
            with programs.talks() as talks:
                hurt(net)
                begin = time.monotonic()
                outage_s = battery.random.uniform(0.8, 1.3)
                threading.Event().wait(outage_s)  # the outage itself
                mend(net)
                healed = time.monotonic()
                talks[1].go_on()
                longest = max(longest, time.monotonic() - healed)
                for each in talks[0].ends:
                    each.talk()
                talks[0].go_on()
                carried += sum(each.finish() for each in talks)
            now = [programs.relay.metric(each) for each in lost]
            assert now == before, f"{name}, {healed - begin:.1f} s: {lost} {before} -> {now}"
    return (
        f"{2 * len(some_ways(battery))} streams survived outages of about a second,"
        f" {carried / 1e6:.0f} MB right; bytes again {longest:.1f} s after healing at the latest"
    )


@case("partitions: healed late")
def healed_late(battery: Battery) -> str:
    """Both ends of every stream are reset in time, and a new one works soon after healing."""
    with reach(battery, heartbeat_s=0.5) as (net, programs):
        told, again = 0.0, 0.0
        for name, hurt in some_ways(battery):
            with programs.talks() as talks:
                hurt(net)
                begin = time.monotonic()
                limit_s = 4 * programs.heartbeat_s + SLACK_S
                told_s = max(each.aborted_after(begin, limit_s) for each in talks)
            mend(net)
            again_s = programs.first_stream()
            print(f"{name}: told after {told_s:.1f} s, a new stream after {again_s:.1f} s")
            told, again = max(told, told_s), max(again, again_s)
    return (
        f"{2 * len(some_ways(battery))} streams reset at both ends within {told:.1f} s"
        f" (heartbeat 0.5 s); a new stream {again:.1f} s after healing at the latest"
    )
