"""Who holds which port and name: never two keys the same."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from common.keys import Identity
from common.refusals import Refusal
from common.trusted_keys import TrustedKey, parse_trusted_keys
from common.wire import MAX_EXPOSURES, Expose, Kind
from relay_server.public.claims import Claim, Claims, Granted, Owner

KEYS = [Identity.from_seed(bytes([n]) * 32, f"key-{n}").public for n in range(3)]
ALICE: Owner = (KEYS[0].raw, b"a" * 16)
ALICE_TOO: Owner = (KEYS[0].raw, b"b" * 16)
BOB: Owner = (KEYS[1].raw, b"c" * 16)
RESERVE_S = 60.0


def trusted(options: str = "") -> TrustedKey:
    (key,) = parse_trusted_keys(f"{options} {KEYS[0].openssh()}".encode(), "keys.txt")
    return key


def claims(
    domain: str = "fidb.app", http: bool = True, https: bool = True, reserve_s: float = RESERVE_S
) -> Claims:
    return Claims(domain=domain, http=http, https=https, reserve_s=reserve_s)


def port(number: int, source: str = "", kind: Kind = "tcp", id: int = 1) -> Expose:  # noqa: A002
    return Expose(id, kind, "", number, source)


def name(host: str, kind: Kind = "http", id: int = 1) -> Expose:  # noqa: A002
    return Expose(id, kind, host, 0)


def resolve(of: Claims, asked: Expose, options: str = "") -> str | Refusal:
    return of.resolve(asked, "", trusted(options))


def ask(of: Claims, asked: Expose, owner: Owner) -> Granted | Refusal:
    host = resolve(of, asked)
    return host if isinstance(host, Refusal) else of.grant(asked, host, asked.port, owner)


def granted(of: Claims, asked: Expose, owner: Owner) -> Granted:
    answer = ask(of, asked, owner)
    assert isinstance(answer, Granted), answer
    return answer


def refused(answer: object) -> str:
    assert isinstance(answer, Refusal), answer
    return answer.code


# What may be asked for


@pytest.mark.parametrize(
    ("host", "full"),
    [
        ("app", "app.fidb.app"),
        ("APP", "app.fidb.app"),
        ("app.", "app.fidb.app"),
        ("*.app", "*.app.fidb.app"),
        ("*.com", "*.com.fidb.app"),
        ("www.example.org", "www.example.org"),
        ("WWW.Example.ORG.", "www.example.org"),
        ("*.example.org", "*.example.org"),
        ("fidb.app", "fidb.app"),
        ("*.fidb.app", "*.fidb.app"),
        ("_acme.xn--bcher-kva.example", "_acme.xn--bcher-kva.example"),
        ("a" * 63, "a" * 63 + ".fidb.app"),
        ("1.example", "1.example"),
    ],
)
@pytest.mark.parametrize("kind", ["http", "https"])
def test_a_name_is_made_full(host: str, full: str, kind: Kind) -> None:
    assert resolve(claims(), name(host, kind)) == full
    assert resolve(claims(domain="FIDB.app."), name(host, kind)) == full


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "*",
        "*.",
        "*.*.a",
        "a.*",
        "a*.b",
        "..",
        "a..b",
        "a..",
        ".a",
        "-a",
        "a-",
        "a b",
        " a.b",
        "a.b\n",
        "a/b",
        "a:80",
        "192.0.2.7",
        "*.192.0.2.7",
        "1.2",
        "a.0x7f",
        "::1",
        "[::1]",
        "bücher",
        "\u212aube.example.org",  # the Kelvin sign is a k in lower case
        "a" * 64,
        ".".join(["a"] * 127) + "x",
        "*." + ".".join(["a" * 60] * 4) + ".bcdefghij",
    ],
)
def test_what_is_no_name(host: str) -> None:
    answer = resolve(claims(), name(host))
    assert refused(answer) == "bad-name"
    assert isinstance(answer, Refusal)
    assert "write" in answer.detail or "at most" in answer.detail


def test_a_name_may_not_become_too_long_below_the_domain() -> None:
    domain = ".".join(["d" * 49] * 5)  # 249 characters
    assert resolve(claims(domain), name("abc")) == f"abc.{domain}"
    assert refused(resolve(claims(domain), name("abcd"))) == "bad-name"
    assert refused(resolve(claims(domain), name("*.ab"))) == "bad-name"


def test_a_short_name_needs_a_domain() -> None:
    of = claims(domain="")
    answer = resolve(of, name("app"))
    assert isinstance(answer, Refusal)
    assert answer.code == "no-domain"
    assert "--domain" in answer.detail
    assert resolve(of, name("app.example.org")) == "app.example.org"


@pytest.mark.parametrize(
    ("kind", "flag"), [("http", "--http-port"), ("https", "--https-port")], ids=str
)
def test_a_kind_that_is_not_served(kind: Kind, flag: str) -> None:
    answer = resolve(claims(http=kind != "http", https=kind != "https"), name("app", kind))
    assert isinstance(answer, Refusal)
    assert answer.code == "not-served"
    assert flag in answer.detail


@pytest.mark.parametrize(
    "asked",
    [
        port(80, "10.0.0.1/8"),
        port(80, "somewhere"),
        Expose(1, "udp", "", 53, raw=True),
        Expose(1, "http", "app", 0, raw=True),
        Expose(1, "http", "app", 80),
        Expose(1, "https", "app", 0, "10.0.0.0/8"),
        Expose(1, "tcp", "app", 80),
        *(
            Expose(1, "http", "app", 0, host_header=header)
            for header in ("a\r\nX: y", "a\r\n", "a b", "a:b", "a:0", "a\x00", "a/b", "ü", "\ta")
        ),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(asked: Expose) -> None:
    assert refused(resolve(claims(), asked)) == "bad-exposure"


@pytest.mark.parametrize("header", ["a", "a.b:8080", "localhost", "127.0.0.1:80", "[::1]:80"])
def test_a_host_header(header: str) -> None:
    assert resolve(claims(), Expose(1, "http", "a", 0, host_header=header)) == "a.fidb.app"


def test_a_key_has_what_it_may_have() -> None:
    of = claims()
    options = 'permitlisten="8000-8099",permithost="app.fidb.app,*.example.org"'
    assert resolve(of, port(8000), options) == ""
    assert resolve(of, port(8099, kind="udp"), options) == ""
    assert refused(resolve(of, port(80), options)) == "not-permitted"
    assert refused(resolve(of, port(0), options)) == "not-permitted"
    assert resolve(of, name("APP"), options) == "app.fidb.app"
    assert resolve(of, name("*.www.example.org"), options) == "*.www.example.org"
    assert refused(resolve(of, name("example.org"), options)) == "not-permitted"
    assert refused(resolve(of, name("*.fidb.app"), options)) == "not-permitted"


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


# Everything together


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
