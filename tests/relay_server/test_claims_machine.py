"""Claims against a list of holders, in any order of events."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from common.wire import Expose, Kind
from relay_server.public.claims import Claim, Granted, Owner
from tests.relay_server.claiming import RESERVE_S, ask, claims, name, port, refused
from tests.relay_server.owners import ALICE, ALICE_TOO, BOB, KEYS


@dataclass
class Holder:
    """A claim as the model knows it."""

    kind: Kind
    place: str | int
    source: str
    owner: Owner
    id: int
    claim: Claim = field(repr=False)
    gone_at: float | None = None


OWNERS = [ALICE, ALICE_TOO, BOB, (KEYS[2].raw, b"d" * 16)]
SOURCES = ["", "10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"]
VISITORS = ["10.0.0.1", "10.1.0.1", "192.0.2.1", "2001:db8::1"]
HOSTS = ["a", "b.a", "c.b.a", "*.a", "*.b.a", "*.fidb.app", "fidb.app", "d.fidb.app", "d"]


def overlap(one: str, other: str) -> bool:
    def covers(wildcard: str, host: str) -> bool:
        return wildcard.startswith("*.") and host.removeprefix("*.").endswith(wildcard[1:])

    return one == other or covers(one, other) or covers(other, one)


class Everybody(RuleBasedStateMachine):
    """Claims against a list of holders."""

    def __init__(self) -> None:
        super().__init__()
        self.claims = claims()
        self.held: list[Holder] = []
        self.ended: list[Claim] = []
        self.now = 1000.0

    def end(self, holders: list[Holder]) -> None:
        self.held = [each for each in self.held if each not in holders]
        self.ended += [each.claim for each in holders]

    def settle(
        self,
        asked: Expose,
        place: str | int,
        owner: Owner,
        rivals: list[Holder],
        same: list[Holder],
    ) -> None:
        answer = ask(self.claims, asked, owner)
        if any(each.owner[0] != owner[0] for each in rivals):
            assert refused(answer) == "held"
            return
        assert isinstance(answer, Granted)
        again = [each for each in self.held if (each.owner, each.id) == (owner, asked.id)]
        over = same + [each for each in again if each not in same]
        assert set(answer.replaced) == {each.claim for each in over}
        assert len(answer.replaced) == len(over)
        self.end(over)
        self.held.append(Holder(asked.kind, place, asked.source, owner, asked.id, answer.claim))

    @rule(
        owner=st.sampled_from(OWNERS),
        kind=st.sampled_from(["tcp", "udp"]),
        number=st.integers(1, 3),
        source=st.sampled_from(SOURCES),
        id=st.integers(1, 6),
    )
    def ask_for_a_port(self, owner: Owner, kind: Kind, number: int, source: str, id: int) -> None:  # noqa: A002
        rivals = [each for each in self.held if (each.kind, each.place) == (kind, number)]
        same = [each for each in rivals if kind == "udp" or each.source == source]
        self.settle(port(number, source, kind, id), number, owner, rivals, same)

    @rule(
        owner=st.sampled_from(OWNERS),
        kind=st.sampled_from(["http", "https"]),
        host=st.sampled_from(HOSTS),
        id=st.integers(1, 6),
    )
    def ask_for_a_name(self, owner: Owner, kind: Kind, host: str, id: int) -> None:  # noqa: A002
        full = host if "." in host.removeprefix("*.") else f"{host}.fidb.app"
        rivals = [
            each for each in self.held if isinstance(each.place, str) and overlap(each.place, full)
        ]
        same = [each for each in rivals if (each.kind, each.place) == (kind, full)]
        self.settle(name(host, kind, id), full, owner, rivals, same)

    @rule(owner=st.sampled_from(OWNERS))
    def lose(self, owner: Owner) -> None:
        self.claims.lost(owner, self.now)
        for each in self.held:
            if each.owner == owner and each.gone_at is None:
                each.gone_at = self.now

    @rule(passed=st.sampled_from([1.0, RESERVE_S / 2, RESERVE_S]))
    def time_passes(self, passed: float) -> None:
        self.now += passed
        over = [
            each
            for each in self.held
            if each.gone_at is not None and self.now - each.gone_at >= RESERVE_S
        ]
        assert set(self.claims.expired(self.now)) == {each.claim for each in over}
        self.end(over)

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        if self.held:
            holder = data.draw(st.sampled_from(self.held))
            self.claims.withdraw(holder.claim)
            self.end([holder])

    @rule(data=st.data())
    def withdraw_what_has_ended(self, data: st.DataObject) -> None:
        if self.ended:
            self.claims.withdraw(data.draw(st.sampled_from(self.ended)))

    @invariant()
    def what_is_held_is_held(self) -> None:
        assert set(self.claims) == {each.claim for each in self.held}
        assert len(self.claims) == len(self.held)
        for owner in OWNERS:
            mine = {each.claim for each in self.held if each.owner == owner}
            assert set(self.claims.of(owner)) == mine

    @invariant()
    def a_port_is_of_one_key(self) -> None:
        for kind in ("tcp", "udp"):
            for number in (1, 2, 3):
                here = [each for each in self.held if (each.kind, each.place) == (kind, number)]
                assert len({each.owner[0] for each in here}) <= 1
                assert self.claims.holds(kind, number) == bool(here)
                for visitor in VISITORS:
                    admitting = [
                        each.claim
                        for each in here
                        if each.claim.source is None or ip_address(visitor) in each.claim.source
                    ]
                    best = max(
                        admitting,
                        key=lambda each: -1 if each.source is None else each.source.prefixlen,
                        default=None,
                    )
                    assert self.claims.port(kind, number, visitor) is best

    @invariant()
    def a_visitor_of_a_name_finds_one_key_over_both_kinds(self) -> None:
        for host in (
            "a.fidb.app",
            "b.a",
            "x.b.a",
            "c.b.a",
            "fidb.app",
            "d.fidb.app",
            "x.y.fidb.app",
        ):
            found = {
                claim.owner[0]
                for claim in (self.claims.name("http", host), self.claims.name("https", host))
                if claim is not None
            }
            assert len(found) <= 1


TestEverybody = Everybody.TestCase
TestEverybody.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
