"""Streams over a path that does nothing: ends, aborts and amounts, through every way in.

The ways in are a route, a public port, a raw one, and a host name whose TLS is passed through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.battery.bench import Battery
from tests.battery.plans import FIRST, OTHER, SIDES, Door, Plan, Side
from tests.battery.registry import case
from tests.battery.stage import staged

MIB = 1 << 20
RESETS = 40
"""By each side and through each way in."""


def _chosen(battery: Battery, most: int) -> int:
    """Return a size between the least and ``most``; small ones are as likely as large ones."""
    return int(FIRST * (most / FIRST) ** battery.random.random())


@case("streams: half-close, in both orders")
def half_close(battery: Battery) -> str:
    """One side says all and ends; only then the other says its part, and all of it arrives."""
    count, most = battery.size(quick=24, full=400), battery.size(quick=MIB, full=16 * MIB)
    with staged(battery, chaos=False) as stage:

        def jobs() -> Iterator[tuple[Door, Plan]]:
            for number in range(count):
                sizes = {side: _chosen(battery, most) for side in SIDES}
                if number % 8 > 5:  # nothing but a FIN
                    sizes["destination"] = 0
                yield stage.doors[number // 2 % 4], Plan(number, sizes, waits=SIDES[number % 2])

        tally = stage.play(jobs(), at_once=8)
    return f"{count} streams, {tally.right / MIB:,.0f} MiB, whole; 4 ways in"


def _resets(battery: Battery, plan: Callable[[int, Side], Plan]) -> str:
    each = battery.size(quick=10, full=RESETS)
    with staged(battery, chaos=False) as stage:
        total = 2 * each * len(stage.doors)

        def jobs() -> Iterator[tuple[Door, Plan]]:
            for number in range(total):
                yield stage.doors[number // 2 % 4], plan(number, SIDES[number % 2])

        tally = stage.play(jobs(), at_once=8)
    assert tally.resets == dict.fromkeys(SIDES, total), tally
    return f"{each} by each side through 4 ways in: {total} seen at the other side, none as an end"


@case("streams: a RST while nothing moves", quick=False)
def reset_idle(battery: Battery) -> str:
    """The other side learns of it, though there is nothing to read before it."""

    def plan(number: int, side: Side) -> Plan:
        silence = {FIRST: 30.0}
        return Plan(
            number,
            dict.fromkeys(SIDES, 2 * FIRST),
            aborts=side,
            trigger="hears",
            after=FIRST,
            pause_s=battery.random.uniform(0, 0.1),
            pauses=dict.fromkeys(SIDES, silence),
        )

    return _resets(battery, plan)


@case("streams: a RST from who writes")
def reset_by_writer(battery: Battery) -> str:
    """What the other side has got is right up to the RST."""

    def plan(number: int, side: Side) -> Plan:
        after = _chosen(battery, 8 * MIB)
        return Plan(number, {side: 8 * MIB, OTHER[side]: FIRST}, aborts=side, after=after)

    return _resets(battery, plan)


@case("streams: a RST from who reads", quick=False)
def reset_by_reader(battery: Battery) -> str:
    """It comes while bytes for it are in every buffer on the way."""

    def plan(number: int, side: Side) -> Plan:
        after = _chosen(battery, 8 * MIB)
        sizes = {side: FIRST, OTHER[side]: 16 * MIB}
        return Plan(number, sizes, aborts=side, trigger="hears", after=after)

    return _resets(battery, plan)


@case("streams: a crowd at full speed")
def crowd(battery: Battery) -> str:
    """All at once, both ways, so that every buffer on the way is somebody else's a moment later."""
    count, size = battery.size(quick=20, full=200), battery.size(quick=MIB, full=10 * MIB)
    # Channels for all of them beforehand: how a pool grows in a burst is another matter.
    clients = ("--pool", str(max(8, count // 2)), "--pool-linger", "5")
    with staged(battery, chaos=False, clients=clients) as stage:
        jobs = [
            (stage.doors[number % 4], Plan(number, dict.fromkeys(SIDES, size)))
            for number in range(count)
        ]
        tally = stage.play(jobs, at_once=count, deadline_s=600)
    assert tally.right == 2 * count * size
    rate = tally.right / MIB / tally.seconds
    return f"{count} x {size // MIB} MiB both ways through 4 ways in, none wrong, {rate:,.0f} MiB/s"
