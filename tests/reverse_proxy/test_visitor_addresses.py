"""Loopback addresses that stand for clients: one each, the same again, bounded."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverse_proxy.visitor_addresses import Seen, VisitorAddresses, client_of

HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.ip_addresses(v=4).map(lambda each: f"::ffff:{each}"),
)


@given(hosts=st.lists(HOSTS, max_size=30))
def test_clients_and_addresses_are_one_to_one(hosts: list[str]) -> None:
    table = VisitorAddresses()
    given_out = {host: table.stand_in(host, 1.0) for host in hosts}
    by_client: dict[str, set[str]] = {}
    for host, address in given_out.items():
        by_client.setdefault(client_of(host), set()).add(address)
        found = table.who(address)
        assert found is not None
        assert found.client == client_of(host)
        number = IPv4Address(address)
        assert IPv4Address("127.1.0.0") <= number <= IPv4Address("127.255.255.254")
        assert int(number) & 0xFF not in (0, 0xFF)
    assert all(len(each) == 1 for each in by_client.values())
    assert len(set(given_out.values())) == len(by_client) == len(table) == table.newcomers


@given(host=HOSTS)
def test_an_address_is_the_same_after_a_restart(host: str) -> None:
    assert VisitorAddresses().stand_in(host, 1.0) == VisitorAddresses().stand_in(host, 2.0)


@given(st.ip_addresses(v=4))
def test_what_is_written_plainly_means_what_it_says(address: IPv4Address) -> None:
    assert client_of(str(address)) == str(address)


@given(st.ip_addresses(v=6))
def test_an_ipv6_client_is_its_network(address: IPv6Address) -> None:
    network = client_of(str(address))
    if address.ipv4_mapped is not None:
        assert network == str(address.ipv4_mapped)
    else:
        first = network.removesuffix("/64")
        assert int(IPv6Address(first)) == int(address) >> 64 << 64
        assert client_of(first) == network
        assert client_of(f"{address}%eth0") == network


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "01.2.3.4",
        "1.2.3.4\n",
        "1.2.3.4 ",
        "::g",
    ],
)
def test_what_is_no_address_has_none(host: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        VisitorAddresses().stand_in(host, 1.0)


def test_two_that_would_share_an_address_do_not() -> None:
    table = VisitorAddresses()
    address = VisitorAddresses().stand_in("192.0.2.7", 1.0)
    assert table.restore(address, Seen("192.0.2.8", 1.0, 2.0))
    other = table.stand_in("192.0.2.7", 3.0)
    assert other != address
    assert table.stand_in("192.0.2.7", 4.0) == other
    assert table.stand_in("192.0.2.8", 4.0) == address


def test_of_too_many_the_one_that_was_seen_least_recently_is_forgotten() -> None:
    table = VisitorAddresses(3)
    first = [table.stand_in(f"192.0.2.{number}", number) for number in range(3)]
    table.stand_in("192.0.2.0", 10)  # seen again
    table.stand_in("192.0.2.3", 11)
    assert len(table) == 3
    assert table.who(first[1]) is None
    seen = table.who(first[0])
    assert seen is not None
    assert (seen.first, seen.last) == (0, 10)
    assert [each.client for _, each in table.items()] == ["192.0.2.2", "192.0.2.0", "192.0.2.3"]


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("127.0.0.1", "192.0.2.7"),  # the machine's own
        ("127.1.2.0", "192.0.2.7"),
        ("128.1.2.3", "192.0.2.7"),
        ("x", "192.0.2.7"),
        ("127.1.2.3", "x"),
        ("127.1.2.3", "2001:db8::1/64"),  # not a network's first address
        ("127.1.2.3", "::ffff:192.0.2.7"),
        ("127.1.2.3", "192.0.2.7/24"),
        ("127.9.9.9", "192.0.2.1"),  # known already
        ("127.1.1.1", "192.0.2.7"),  # of somebody else
    ],
)
def test_what_does_not_fit_is_not_restored(address: str, client: str) -> None:
    table = VisitorAddresses()
    assert table.restore("127.1.1.1", Seen("192.0.2.1", 1.0, 1.0))
    assert not table.restore(address, Seen(client, 1.0, 1.0))
    assert len(table) == 1
