"""Who holds which port and name: never two keys the same."""

from __future__ import annotations

import time

import pytest

from common.refusals import Refusal
from common.wire import MAX_EXPOSURES, Kind
from relay_server.public.claims import Granted, Owner
from tests.relay_server.claiming import ask, claims, granted, name, port, refused
from tests.relay_server.owners import ALICE, ALICE_TOO, BOB, KEYS

# Ports


def test_another_key_does_not_get_a_port() -> None:
    of = claims()
    granted(of, port(80), ALICE)
    answer = ask(of, port(80), BOB)
    assert isinstance(answer, Refusal)
    assert answer.code == "held"
    assert answer.detail == (
        f"port 80 is held by key {KEYS[0].fingerprint}; choose another port, or stop that one"
    )
    assert refused(ask(of, port(80, "10.0.0.0/8"), BOB)) == "held"
    assert not of.of(BOB)
    granted(of, port(80, kind="udp"), BOB)
    granted(of, port(81), BOB)
    of.lost(ALICE, 1.0)
    answer = ask(of, port(80), BOB)
    assert isinstance(answer, Refusal)
    assert ", which is away" in answer.detail


def test_networks_share_a_port() -> None:
    of = claims()
    everybody = granted(of, port(22), ALICE).claim
    some = granted(of, port(22, "10.0.0.0/8", id=2), ALICE).claim
    one = granted(of, port(22, "10.1.2.3"), ALICE_TOO)
    assert one.replaced == ()
    assert of.port("tcp", 22, "192.0.2.1") is everybody
    assert of.port("tcp", 22, "::ffff:10.1.2.4") is some
    assert of.port("tcp", 22, "10.1.2.3") is one.claim
    of.withdraw(everybody)
    assert of.port("tcp", 22, "192.0.2.1") is None
    assert of.holds("tcp", 22)
    of.withdraw(some)
    of.withdraw(one.claim)
    assert not of.holds("tcp", 22)


def test_the_same_network_in_two_spellings_is_one_claim() -> None:
    of = claims()
    old = granted(of, port(22, "10.0.0.0/8"), ALICE).claim
    assert granted(of, port(22, "::ffff:10.0.0.0/104"), ALICE_TOO).replaced == (old,)


@pytest.mark.parametrize("owner", [ALICE, ALICE_TOO])
def test_the_same_key_takes_over_at_once(owner: Owner) -> None:
    of = claims()
    old = granted(of, port(80, id=1), ALICE).claim
    new = granted(of, port(80, id=7), owner)
    assert new.replaced == (old,)
    assert of.port("tcp", 80, "192.0.2.1") is new.claim
    assert list(of) == [new.claim]
    of.withdraw(old)  # a late end of what was replaced changes nothing
    assert of.port("tcp", 80, "192.0.2.1") is new.claim


def test_a_udp_port_has_one_claim() -> None:
    of = claims()
    old = granted(of, port(53, "10.0.0.0/8", "udp"), ALICE).claim
    new = granted(of, port(53, "", "udp", id=2), ALICE)
    assert new.replaced == (old,)
    assert of.port("udp", 53, "10.0.0.1") is new.claim


def test_an_id_that_is_used_again_moves_the_exposure() -> None:
    of = claims()
    old = granted(of, port(80), ALICE).claim
    new = granted(of, port(81), ALICE)
    assert new.replaced == (old,)
    assert not of.holds("tcp", 80)
    assert of.of(ALICE) == [new.claim]


def test_an_id_that_is_used_again_takes_two_places() -> None:
    of = claims()
    one, two = (granted(of, port(80 + n, id=n), ALICE).claim for n in (1, 2))
    assert set(granted(of, port(81, id=2), ALICE).replaced) == {one, two}
    assert len(of) == 1


def test_a_refusal_changes_nothing() -> None:
    of = claims()
    granted(of, port(80), BOB)
    mine = granted(of, port(81), ALICE).claim
    assert refused(ask(of, port(80), ALICE)) == "held"
    assert of.of(ALICE) == [mine]
    assert of.port("tcp", 81, "192.0.2.1") is mine


def test_a_port_is_granted_in_place_of_any() -> None:
    of = claims()
    answer = of.grant(port(0), "", 40000, ALICE)
    assert isinstance(answer, Granted)
    assert answer.claim.port == 40000
    assert of.holds("tcp", 40000)
    assert not of.holds("tcp", 0)


def test_a_claim_says_what_it_is() -> None:
    of = claims()
    asked = [
        port(22, "10.0.0.0/8", id=1),
        port(53, kind="udp", id=2),
        name("app", id=3),
        name("*.app", "https", id=4),
    ]
    assert [str(granted(of, each, ALICE).claim) for each in asked] == [
        "port 22 from 10.0.0.0/8",
        "UDP port 53",
        "http://app.fidb.app",
        "https://*.app.fidb.app",
    ]


# Names


def test_a_visitor_gets_the_most_specific_name() -> None:
    of = claims()
    wide = granted(of, name("*.example.org", id=1), ALICE).claim
    deep = granted(of, name("*.a.example.org", id=2), ALICE_TOO).claim
    exact = granted(of, name("b.a.example.org", id=3), ALICE).claim
    assert of.name("http", "b.a.example.org") is exact
    assert of.name("http", "c.b.a.example.org") is deep
    assert of.name("http", "a.example.org") is wide
    assert of.name("http", "example.org") is None
    assert of.name("https", "a.example.org") is None


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ("app", "app"),
        ("app", "APP.fidb.app"),
        ("*.example.org", "a.example.org"),
        ("*.example.org", "b.a.example.org"),
        ("*.example.org", "*.a.example.org"),
        ("*.example.org", "*.example.org"),
    ],
)
@pytest.mark.parametrize("kinds", [("http", "http"), ("http", "https"), ("https", "http")])
@pytest.mark.parametrize("turned", [False, True])
def test_another_key_does_not_get_a_name_a_visitor_could_mean(
    mine: str, theirs: str, kinds: tuple[Kind, Kind], turned: bool
) -> None:
    of = claims()
    first, second = (theirs, mine) if turned else (mine, theirs)
    held = granted(of, name(first, kinds[0]), ALICE).claim
    answer = ask(of, name(second, kinds[1]), BOB)
    assert isinstance(answer, Refusal)
    assert answer.code == "held"
    assert answer.detail.startswith(f"{held} is held by key {KEYS[0].fingerprint}; choose another")


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ("*.example.org", "example.org"),
        ("*.a.example.org", "a.example.org"),
        ("*.a.example.org", "*.b.example.org"),
        ("a.example.org", "ba.example.org"),
        ("*.a.example.org", "x.ba.example.org"),
        ("a", "b"),
    ],
)
def test_names_that_no_visitor_confuses_are_free(mine: str, theirs: str) -> None:
    of = claims()
    granted(of, name(mine), ALICE)
    granted(of, name(theirs), BOB)
    assert len(of) == 2


def test_one_key_has_a_name_over_http_and_over_tls() -> None:
    of = claims()
    plain = granted(of, name("app", "http", id=1), ALICE).claim
    over_tls = granted(of, name("app", "https", id=2), ALICE)
    assert over_tls.replaced == ()
    assert of.name("http", "app.fidb.app") is plain
    assert of.name("https", "app.fidb.app") is over_tls.claim
    again = granted(of, name("app", "http", id=3), ALICE_TOO)
    assert again.replaced == (plain,)
    assert of.name("https", "app.fidb.app") is over_tls.claim


# The end of claims


def test_a_claim_is_kept_for_its_key_while_its_process_is_away() -> None:
    of = claims()
    kept = granted(of, port(80), ALICE).claim
    other = granted(of, port(81), BOB).claim
    of.lost(ALICE, 100.0)
    of.lost(ALICE, 130.0)  # it has been away since 100
    assert kept.gone_at == 100.0
    assert other.gone_at is None
    assert of.expired(159.9) == []
    assert refused(ask(of, port(80), BOB)) == "held"
    assert of.expired(160.0) == [kept]
    assert of.expired(160.0) == []
    granted(of, port(80, id=2), BOB)
    assert list(of.of(ALICE)) == []


def test_what_is_asked_for_again_is_there_again() -> None:
    of = claims()
    granted(of, port(80, id=1), ALICE)
    granted(of, port(81, id=2), ALICE)
    of.lost(ALICE, 100.0)
    back = granted(of, port(80, id=1), ALICE).claim
    (over,) = of.expired(1000.0)
    assert over.port == 81
    assert of.of(ALICE) == [back]


def test_without_a_reserve_a_claim_ends_at_once() -> None:
    of = claims(reserve_s=0)
    granted(of, port(80), ALICE)
    of.lost(ALICE, 5.0)
    assert len(of.expired(5.0)) == 1
    assert len(of) == 0


def test_one_key_holds_so_many_and_not_more() -> None:
    of = claims()
    for number in range(MAX_EXPOSURES):
        owner = ALICE if number % 2 else ALICE_TOO
        assert isinstance(of.grant(port(1 + number, id=number), "", 1 + number, owner), Granted)
    assert refused(ask(of, port(60000, id=60000), ALICE)) == "too-many-exposures"
    granted(of, port(60000), BOB)
    granted(of, port(1, id=9999), ALICE)  # takes the place of one that is held
    (held,) = (each for each in of.of(ALICE) if each.port == 2)
    of.withdraw(held)
    granted(of, port(60001, id=60001), ALICE)


def test_grants_of_names_do_not_walk_all_names() -> None:
    of = claims()
    start = time.perf_counter()
    for number in range(MAX_EXPOSURES):
        assert isinstance(of.grant(name("x", id=number), f"n{number}.a.b", 0, ALICE), Granted)
    assert time.perf_counter() - start < 2.0
