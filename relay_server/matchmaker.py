"""Who is paired with whom: a pure decision.

Links of one group wait on two sides, openers and acceptors. Links that are alike for matching (the
same key, process and accepted partner keys: a *party*) wait in one queue, so a match costs a look
at the parties of the group, not at its links.

Invariant: after every call no two waiting links of one group accept each other. A new link is
therefore all that has to be looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from common.wire import Role

LinkT = TypeVar("LinkT", bound=Hashable)

_OTHER: Final[dict[Role, Role]] = {"entry-point": "reverse-proxy", "reverse-proxy": "entry-point"}


@dataclass(frozen=True, slots=True)
class Party:
    """Everything about a link that matters for matching.

    Args:
        key: the raw key (32 bytes) that the link has proven.
        instance: the process (16 bytes); machines that share a key are told apart by it.
        partners: the raw keys that the link accepts as partners.
    """

    role: Role
    group: str
    key: bytes
    instance: bytes
    partners: frozenset[bytes]

    def accepts(self, other: Party) -> bool:
        """Whether the two may be paired: each holds the other's key for a partner's."""
        return other.key in self.partners and self.key in other.partners


@dataclass(slots=True)
class _Group(Generic[LinkT]):
    waiting: dict[Role, dict[Party, dict[LinkT, None]]] = field(
        default_factory=lambda: {"entry-point": {}, "reverse-proxy": {}}
    )

    def __bool__(self) -> bool:
        return any(self.waiting.values())


class Matchmaker(Generic[LinkT]):
    """The links that wait, and how many pairs each party has."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group[LinkT]] = {}
        self._pairs: Counter[Party] = Counter()
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Links that wait for a partner."""
        return self._waiting

    def add(self, link: LinkT, party: Party) -> LinkT | None:
        """Return the link to pair the new one with, or let it wait and return ``None``.

        Of several parties the one with the fewest pairs is taken, so that load is spread and
        nobody starves; of its links the one that has waited longest. The partner no longer waits,
        and a pair of each party is counted until :meth:`release`.
        """
        group = self._groups.setdefault(party.group, _Group())
        others = group.waiting[_OTHER[party.role]]
        suitable = [each for each in others if party.accepts(each)]
        if not suitable:
            group.waiting[party.role].setdefault(party, {})[link] = None
            self._waiting += 1
            return None
        best = min(suitable, key=self._pairs.__getitem__)
        partner = next(iter(others[best]))
        self.remove(partner, best)
        self._pairs[party] += 1
        self._pairs[best] += 1
        return partner

    def remove(self, link: LinkT, party: Party) -> None:
        """Let a link wait no longer; one that does not wait is ignored."""
        group = self._groups.get(party.group)
        if group is None:
            return
        queue = group.waiting[party.role].get(party, {})
        if link in queue:
            del queue[link]
            self._waiting -= 1
            if not queue:
                del group.waiting[party.role][party]
        if not group:
            del self._groups[party.group]

    def release(self, one: Party, other: Party) -> None:
        """Count a pair of the two parties no longer."""
        for party in (one, other):
            self._pairs[party] -= 1
            if not self._pairs[party]:
                del self._pairs[party]

    def backlog(self, party: Party) -> int:
        """Return how many links of the other side wait for one of ``party``'s."""
        group = self._groups.get(party.group)
        if group is None:
            return 0
        others = group.waiting[_OTHER[party.role]]
        return sum(len(queue) for each, queue in others.items() if party.accepts(each))
