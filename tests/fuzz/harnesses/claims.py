"""Claims: what reverse-proxies of several keys ask of a relay, and what no order of it may do."""

from __future__ import annotations

import re
from typing import Final

from common.addresses import LONGEST_NAME, parse_network
from common.key_options import KeyOptions
from common.keys import PublicKey
from common.refusals import Refusal
from common.trusted_keys import TrustedKey
from common.wire import Expose, Kind
from relay_server.public.claims import Claim, Claims, Owner

# Lines: an owner and an act (one byte each), and then what is asked for, as text.
SEEDS: Final = (
    b"\x00ap 80\n\x01ap 80\n\x02ap 80 10.0.0.0/8\n\x00lp\n\x01ap 80",
    b"\x00aH *.example.org\n\x01aH a.example.org\n\x02aS example.org\n\x00wH",
    b"\x00aH bname.org\n\x01aH *.name.org\n\x01aS b.name.org\n\x00aH *.b.name.org",
    b"\x00aH app\n\x01aS app\n\x02aS *.x.y\n\x00aH APP.\n\x01aS *.app",
    b"\x00aH app=intranet:80\n\x00aH app=[::1]\n\x01aH b=a\tb",
    b"\x00au 53\n\x00au 53 10.0.0.0/8\n\x01au 53\n\x00ep",
    b"\x01aH a..b\n\x01aH 1.2.3.4\n\x01aH [::1]\n\x01aH a b\n\x01ap 80 x",
    b"\x03ap 80 10.0.0.0/8\n\x03ap 80 10.1.0.0/16\n\x04ap 80\n\x03ap 80\n\x03lp\n\x00ep",
)
WORDS: Final = (
    *(
        b"\n\x00ap ",
        b"\n\x01ap ",
        b"\n\x04au ",
        b"\n\x00aH ",
        b"\n\x01aS ",
        b"\n\x02lp",
        b"\n\x00ep",
    ),
    *(b"*.", b".x.y", b"example.org", b" 10.0.0.0/8", b" ::/0", b" ::ffff:10.0.0.0/104", b"a" * 63),
)
KINDS: Final[dict[int, Kind]] = {ord("p"): "tcp", ord("u"): "udp", ord("H"): "http"}
ANY_KEY: Final = TrustedKey(PublicKey(bytes(32)), KeyOptions(), "keys", 1)
PROBES: Final = ("10.0.0.1", "10.1.2.3", "::1", "192.0.2.7")


def owner_of(number: int) -> Owner:
    """Three keys with two processes each."""
    return bytes([number % 3]) * 32, bytes([number % 2]) * 16


def covers(wide: str, host: str) -> bool:
    """Whether visitors of ``host``, or of a name below it, are those of the wildcard ``wide``."""
    return wide.startswith("*.") and host.removeprefix("*.").endswith(wide[1:])


def shares(claim: Claim, kind: Kind, host: str, port: int) -> bool:
    """Whether a visitor of ``host`` or ``port`` could mean the claim."""
    if not claim.host or not host:
        return (claim.kind, claim.host, claim.port) == (kind, host, port)
    return claim.host == host or covers(claim.host, host) or covers(host, claim.host)


class World:
    """The claims, and what must hold of them after each act."""

    def __init__(self) -> None:
        self.claims = Claims(domain="X.y.", http=True, https=True, reserve_s=5.0)
        self.now = 0.0
        self.ids = 0

    def ask(self, owner: Owner, kind: Kind, text: str) -> None:
        what, _, source = text.partition(" ")
        port = (
            int(what) % 65536 if what.isascii() and what[:6].isdecimal() and what.isdigit() else 0
        )
        host, _, header = ("", "", "") if kind in ("tcp", "udp") else what.partition("=")
        if max(len(host), len(header)) > 255 or len(source) > 64:
            return
        self.ids += 1
        asked = Expose(self.ids % 4, kind, host, port, source, host_header=header)
        name = self.claims.resolve(asked, "", ANY_KEY)
        if isinstance(name, Refusal):
            assert name.code in ("bad-exposure", "bad-name"), name
            return
        assert name == name.lower()
        assert re.fullmatch("[!-~]*", header), "a service would be told another header"
        assert len(name) <= LONGEST_NAME
        assert (name == "") == (kind in ("tcp", "udp"))
        before = list(self.claims)
        answer = self.claims.grant(asked, name, port, owner)
        if isinstance(answer, Refusal):
            assert answer.code == "held"
            assert list(self.claims) == before
            others = [each for each in before if each.owner[0] != owner[0]]
            assert any(shares(each, kind, name, port) for each in others)
            return
        claim = answer.claim
        assert claim.source == (parse_network(source) if source else None)
        assert claim in self.claims.of(owner)
        assert len(self.claims) == len(before) - len(answer.replaced) + 1
        assert not set(answer.replaced) & set(self.claims)
        assert all(each.owner[0] == owner[0] for each in answer.replaced)

    def withdraw(self, owner: Owner) -> None:
        for each in self.claims.of(owner)[:1]:
            self.claims.withdraw(each)
            self.claims.withdraw(each)

    def expire(self) -> None:
        self.now += 3
        for each in self.claims.expired(self.now):
            assert each.gone_at is not None
            assert each.gone_at + 5 <= self.now
            assert each not in list(self.claims)

    def judge(self) -> None:
        everything = list(self.claims)
        assert len(everything) == len(self.claims)
        for number, one in enumerate(everything):
            for other in everything[:number]:
                if shares(one, other.kind, other.host, other.port):
                    assert one.owner[0] == other.owner[0]
            if one.host:
                # A visitor of the name, or of one below a wildcard, gets its holder's claim.
                visited = one.host.replace("*", "www", 1)
                found = self.claims.name(one.kind, visited)
                assert found is not None
                assert found.owner[0] == one.owner[0]
                assert found is one or one.host.startswith("*.")
                continue
            assert self.claims.holds(one.kind, one.port)
            for probe in PROBES:
                admitted = self.claims.port(one.kind, one.port, probe)
                assert admitted is None or admitted.owner[0] == one.owner[0]


def check(data: bytes) -> None:
    world = World()
    for line in data.split(b"\n")[:8]:
        if len(line) < 3:
            continue
        owner, act, kind = owner_of(line[0]), line[1], KINDS.get(line[2], "https")
        if act == ord("a"):
            world.ask(owner, kind, line[3:].strip(b" ").decode("utf-8", "replace"))
        elif act == ord("l"):
            world.claims.lost(owner, world.now)
        elif act == ord("w"):
            world.withdraw(owner)
        elif act == ord("e"):
            world.expire()
        world.judge()
    for each in list(world.claims):
        world.claims.withdraw(each)
    assert len(world.claims) == 0
    assert not world.claims.holds("tcp", 80)
