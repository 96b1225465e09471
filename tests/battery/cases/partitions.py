"""The network between the programs falls apart and heals: one way or both, early or late."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from common.sockets import was_reset
from tests.battery.bench import Battery
from tests.battery.books import Books
from tests.battery.namespaces import Net
from tests.battery.reach import Reach, reach, reached
from tests.battery.registry import case
from tests.battery.talks import PIECE, RING
from tests.programs.harness import wait_for

WAYS: dict[str, Callable[[Net], None]] = {
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
"""What is lost. The quick size takes the first two."""

SLACK_S = 3.0
"""For a machine that is busy with other things."""


def some_ways(battery: Battery) -> dict[str, Callable[[Net], None]]:
    return dict(list(WAYS.items())[: battery.size(quick=2, full=len(WAYS))])


@case("partitions: healed early", deadline_s=120)
def healed_early(battery: Battery) -> str:
    """TCP makes up for it: no stream notices, nor does a link that waits."""
    carried = count = 0
    longest = 0.0
    with reached(battery, heartbeat_s=4) as programs:
        net = programs.net
        lost = ("links_lost", "pairs_failed")
        before = [programs.relay.metric(name) for name in lost]
        for name, hurt in some_ways(battery).items():
            with programs.talks("idle", "busy") as (idle, busy):
                hurt(net)
                outage_s = battery.random.uniform(0.5, battery.size(quick=1, full=3))
                threading.Event().wait(outage_s)  # the outage itself
                net.heal()
                healed = time.monotonic()
                busy.go_on()
                longest = max(longest, time.monotonic() - healed)
                idle.talk()
                idle.go_on()
                carried += busy.finish() + idle.finish()
                count += 2
            now = [programs.relay.metric(each) for each in lost]
            assert now == before, f"{name}, {outage_s:.1f} s: {lost} {before} -> {now}"
    return (
        f"{count} streams survived, {carried / 1e6:.0f} MB right;"
        f" bytes again within {longest:.1f} s of healing"
    )


def cut_off(programs: Reach, ways: dict[str, Callable[[Net], None]]) -> tuple[str, float]:
    """Hurt and heal the network in each way while streams run.

    Returns what their ends were told, and how long a new stream took after healing at the most.
    """
    told, again, count = 0.0, 0.0, 0
    limit_s = 3 * programs.heartbeat_s + SLACK_S
    for name, hurt in ways.items():
        with programs.talks("idle", "busy") as talks:
            hurt(programs.net)
            begin = time.monotonic()
            told_s = max(each.aborted_after(begin, limit_s) for each in talks)
            count += len(talks)
        programs.net.heal()
        again_s = programs.first_stream()
        print(f"{name}: told after {told_s:.1f} s, a new stream after {again_s:.1f} s")
        told, again = max(told, told_s), max(again, again_s)
    ends = f"{count} streams reset at both ends within {told:.1f} s"
    return f"{ends} (heartbeat {programs.heartbeat_s:g} s)", again


@case("partitions: healed late", quick=False, deadline_s=120)
def healed_late(battery: Battery) -> str:
    """Both ends of every stream are reset in time, and a new one works soon after healing."""
    with reached(battery, heartbeat_s=0.5) as programs:
        told, again = cut_off(programs, some_ways(battery))
    return f"{told}; a new stream within {again:.1f} s of healing"


@case("partitions: while a destination does not read", quick=False)
def stalled(battery: Battery) -> str:
    """Everything on the way is full, so silence says nothing; both ends are reset all the same."""
    told, filled = 0.0, 0
    ways = {"the relay's cable": WAYS["the relay's cable"]} if battery.quick else WAYS
    with reached(battery, heartbeat_s=0.5) as programs:
        # Three heartbeats and one to see it; as long again for who is told by a program, not by
        # the kernel.
        limit_s = 8 * programs.heartbeat_s + SLACK_S
        for name, hurt in ways.items():
            ring = battery.random.randbytes(RING)
            with programs.pair() as (source, destination):
                sent = fill(source, ring)
                hurt(programs.net)
                begin = time.monotonic()
                wait_for(lambda: was_reset(source), f"{name}: the source is told", limit_s)
                wait_for(lambda: was_reset(destination), f"{name}: the destination", limit_s)
                told_s = time.monotonic() - begin
                check_prefix(destination, ring, sent)
            programs.net.heal()
            again_s = programs.first_stream()
            print(f"{name}: {sent} bytes, told after {told_s:.1f} s, again after {again_s:.1f} s")
            told, filled = max(told, told_s), max(filled, sent)
    return f"both ends reset within {told:.1f} s (heartbeat 0.5 s), {filled >> 20} MiB on the way"


@case("partitions: visitors of an exposure", quick=False)
def visitors(battery: Battery) -> str:
    """The same for those who come to a public port; the reverse-proxy has it again afterwards."""
    ways = {
        name: hurt for name, hurt in WAYS.items() if "entry" not in name and "cable" not in name
    }
    ways = dict(list(ways.items())[: battery.size(quick=1, full=len(ways))])
    with reach(battery, heartbeat_s=0.5) as programs:
        programs.start_exposed()
        programs.first_stream()
        books = Books([programs.relay, programs.reverse_proxy])
        told, again = cut_off(programs, ways)
        books.balance()
    return f"{told}; a new visitor within {again:.1f} s of healing"


@case("partitions: for a minute", quick=False)
def for_long(battery: Battery) -> str:
    """The clients' delays have grown; a source that waits still gets its stream."""
    outage_s = battery.size(quick=20, full=60)
    times = []
    with reached(battery, heartbeat_s=0.5) as programs:
        for site in ("entry", "exit", "relay"):
            programs.net.unplug(programs.net[site])
            threading.Event().wait(outage_s)  # the outage itself
            programs.net.heal()
            times.append(f"{site} {programs.first_stream():.1f} s")
    return f"{outage_s} s without its cable; from healing to the first stream: {', '.join(times)}"


def fill(sock: socket.socket, ring: bytes) -> int:
    """Send until nothing has been taken for a second; return how many bytes went."""
    sent = 0
    view = memoryview(ring * 2)
    sock.settimeout(1)
    try:
        while True:
            sent += sock.send(view[sent % RING :][:PIECE])
    except TimeoutError:
        return sent


def check_prefix(sock: socket.socket, ring: bytes, most: int) -> None:
    """Read what came before the RST, and compare."""
    view, at = memoryview(ring * 2), 0
    try:
        while data := sock.recv(PIECE):
            assert data == view[at % RING :][: len(data)], f"wrong bytes after {at}"
            at += len(data)
    except ConnectionResetError:
        pass
    assert at <= most
