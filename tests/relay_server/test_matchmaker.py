from __future__ import annotations

from collections import Counter
from itertools import count
from typing import get_args

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from common.wire import Role
from relay_server.matchmaker import Matchmaker, Party

KEYS = [bytes([number]) * 32 for number in range(3)]
ALL = frozenset(KEYS)


def party(
    role: Role,
    key: int = 0,
    *,
    group: str = "0",
    instance: int = 0,
    partners: frozenset[bytes] = ALL,
) -> Party:
    return Party(role, group, KEYS[key], bytes([instance]) * 16, partners)


OPENER, ACCEPTOR = party("entry-point"), party("reverse-proxy")

parties = st.builds(
    Party,
    st.sampled_from(get_args(Role)),
    st.sampled_from(["a", "b"]),
    st.sampled_from(KEYS),
    st.sampled_from([bytes(16), bytes([1]) * 16]),
    st.frozensets(st.sampled_from(KEYS), min_size=1),
)


def test_the_link_that_has_waited_longest_is_taken() -> None:
    maker: Matchmaker[int] = Matchmaker()
    assert [maker.add(link, ACCEPTOR) for link in (1, 2, 3)] == [None] * 3
    maker.remove(1, ACCEPTOR)
    assert maker.backlog(OPENER) == 2
    assert [maker.add(link, OPENER) for link in (4, 5, 6)] == [2, 3, None]
    assert (maker.waiting, maker.backlog(ACCEPTOR)) == (1, 1)


def test_the_party_with_the_fewest_pairs_is_taken() -> None:
    maker: Matchmaker[str] = Matchmaker()
    busy, free = ACCEPTOR, party("reverse-proxy", instance=1)
    for link in ("b1", "b2"):
        maker.add(link, busy)
    assert maker.add("o1", OPENER) == "b1"
    maker.add("f1", free)
    maker.add("f2", free)
    assert maker.add("o2", OPENER) == "f1"
    assert maker.add("o3", OPENER) in ("b2", "f2")
    maker.release(OPENER, free)
    assert maker.waiting == 1


def test_groups_roles_and_keys_keep_links_apart() -> None:
    for other in (
        party("entry-point"),
        party("reverse-proxy", group="1"),
        party("reverse-proxy", partners=frozenset({KEYS[1]})),
        party("reverse-proxy", key=1, partners=frozenset({KEYS[2]})),
    ):
        maker: Matchmaker[int] = Matchmaker()
        assert maker.add(1, OPENER) is None
        assert maker.add(2, other) is None
        assert maker.backlog(OPENER) == 0


class Matching(RuleBasedStateMachine):
    """The matchmaker against a list of links in the order of their coming."""

    def __init__(self) -> None:
        super().__init__()
        self.maker: Matchmaker[int] = Matchmaker()
        self.ids = count()
        self.waiting: dict[int, Party] = {}
        self.pairs: list[tuple[Party, Party]] = []
        self.gone: list[tuple[int, Party]] = []

    def load(self, party: Party) -> int:
        return Counter(each for pair in self.pairs for each in pair)[party]

    def suitable(self, party: Party) -> dict[int, Party]:
        return {
            link: each
            for link, each in self.waiting.items()
            if each.role != party.role and each.group == party.group and party.accepts(each)
        }

    @rule(party=parties)
    def add(self, party: Party) -> None:
        link, fitting = next(self.ids), self.suitable(party)
        partner = self.maker.add(link, party)
        if not fitting:
            assert partner is None
            self.waiting[link] = party
            return
        assert partner is not None
        other = fitting[partner]
        assert self.load(other) == min(map(self.load, fitting.values()))
        assert partner == min(each for each, its in fitting.items() if its == other)
        del self.waiting[partner]
        self.gone.append((partner, other))
        self.pairs.append((party, other))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        link = data.draw(st.sampled_from(sorted(self.waiting)))
        its = self.waiting.pop(link)
        self.maker.remove(link, its)
        self.gone.append((link, its))

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def leave_again(self, data: st.DataObject) -> None:
        self.maker.remove(*data.draw(st.sampled_from(self.gone)))

    @precondition(lambda self: self.pairs)
    @rule(data=st.data())
    def end_pair(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.pairs) - 1))
        self.maker.release(*self.pairs.pop(index))

    @invariant()
    def nobody_waits_who_could_be_paired(self) -> None:
        assert not any(self.suitable(each) for each in self.waiting.values())
        assert self.maker.waiting == len(self.waiting)

    @rule(party=parties)
    def backlog(self, party: Party) -> None:
        assert self.maker.backlog(party) == len(self.suitable(party))

    def teardown(self) -> None:
        for link, its in self.waiting.items():
            self.maker.remove(link, its)
        for pair in self.pairs:
            self.maker.release(*pair)
        assert not self.maker._groups
        assert not self.maker._pairs


TestMatching = Matching.TestCase
TestMatching.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
