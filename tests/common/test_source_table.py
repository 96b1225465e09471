"""Values by source: the most specific network wins, whatever was put and removed before."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from common.addresses import IPNetwork
from common.errors import AddressError
from common.source_table import SourceTable

V4 = ip_network("10.0.0.0/8")
V6 = ip_network("2001:db8::/32")


def table(*sources: IPNetwork | None) -> SourceTable[str]:
    made = SourceTable[str]()
    for source in sources:
        made.put(source, str(source))
    return made


@pytest.mark.parametrize(
    ("source_ip", "found"),
    [
        ("10.1.2.3", "10.0.0.0/8"),
        ("::ffff:10.1.2.3", "10.0.0.0/8"),
        ("11.0.0.1", "None"),
        ("2001:db8::1", "2001:db8::/32"),
        ("2001:db8::1%eth0", "2001:db8::/32"),
        ("::a01:203", "None"),  # the same number as 10.1.2.3, in the other family
    ],
)
def test_who_finds_what(source_ip: str, found: str) -> None:
    assert table(None, V4, V6).match(source_ip) == found


def test_nothing_for_nobody() -> None:
    made = table()
    assert not made
    assert made.match("10.0.0.1") is None
    assert made.get(None) is None
    assert table(V4).match("192.0.2.1") is None


def test_what_is_put_again_is_replaced() -> None:
    made = table(V4)
    made.put(V4, "new")
    assert (len(made), made.get(V4), made.values()) == (1, "new", ["new"])
    assert made.match("10.0.0.1") == "new"


def test_what_is_not_there_cannot_be_removed() -> None:
    with pytest.raises(KeyError):
        table(V4).remove(None)


def test_what_is_no_address() -> None:
    with pytest.raises(AddressError):
        table(V4).match("localhost")


# Few bits, so that the networks nest and the addresses fall into them.
v4 = st.builds(
    lambda byte, length: IPv4Network((byte << 24, length), strict=False),
    st.sampled_from([0, 64, 128, 192]),
    st.integers(0, 8),
)
v6 = st.builds(
    lambda byte, length: IPv6Network((byte << 120, length), strict=False),
    st.sampled_from([0, 64, 128, 192]),
    st.integers(0, 8),
)
VISITORS = ["1.0.0.1", "65.0.0.1", "129.0.0.1", "200.0.0.1", "::1", "4100::1", "8100::1", "c900::1"]


class Table(RuleBasedStateMachine):
    """The table against a walk over all networks."""

    def __init__(self) -> None:
        super().__init__()
        self.table = SourceTable[int]()
        self.there: dict[IPNetwork | None, int] = {}
        self.next = 0

    @rule(source=st.none() | v4 | v6)
    def put(self, source: IPNetwork | None) -> None:
        self.next += 1
        self.table.put(source, self.next)
        self.there[source] = self.next

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.there:
            source = data.draw(st.sampled_from(list(self.there)))
            self.table.remove(source)
            del self.there[source]

    @invariant()
    def everybody_finds_the_most_specific(self) -> None:
        assert self.table.values() == list(self.there.values())
        assert len(self.table) == len(self.there)
        for visitor in VISITORS:
            address = ip_address(visitor)
            covering = [
                each
                for each in self.there
                if each is None or (each.version == address.version and address in each)
            ]
            best = max(covering, key=lambda each: each.prefixlen if each else -1, default=None)
            expected = self.there[best] if covering else None
            assert self.table.match(visitor) == expected


TestTable = Table.TestCase
TestTable.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
