"""Who holds which public port and host name: a pure decision.

A *claim* is what one reverse-proxy asked the relay to make public. Rules:

* A port (TCP and UDP each) is held by one key. Claims of that key for different source networks
  share it, and the most specific network wins; a UDP port has one claim.
* A host name (per kind) has one claim. A wildcard ``*.name`` stands for every name below, however
  deep; an exact name beats it, a longer wildcard beats a shorter one. Nobody gets a name below, or
  a wildcard above, what another key holds: one key's visitors are never another's.
* The same key takes over what it holds already, at once: the process that asks last has it.
* A claim whose reverse-proxy is away is kept for its key until the reserve is over.

Invariant: a port or name is never held by two keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from common.addresses import LONGEST_NAME, IPNetwork, parse_host, parse_host_port, parse_network
from common.errors import AddressError
from common.keys import PublicKey
from common.refusals import Refusal
from common.source_table import SourceTable
from common.trusted_keys import TrustedKey
from common.wire import MAX_EXPOSURES, Expose, Kind
from relay_server.public.name_table import NameTable

Owner = tuple[bytes, bytes]
"""A key (32 bytes) and a process (16 bytes)."""

_PORT_KINDS: Final = ("tcp", "udp")


@dataclass(eq=False, slots=True)
class Claim:
    """One exposure as the relay knows it.

    Args:
        id: the reverse-proxy's number for it.
        host: the full host name of http and https, lower-case, or ``*.name``; else empty.
        port: the public port of tcp and udp; else 0.
        source: the only network that is admitted; ``None`` admits all.
        raw, hold_s, host_header: as in ``wire.Expose``.
        owner: whose it is.
        gone_at: since when its reverse-proxy is away, seconds; ``None`` while it is there.
    """

    id: int
    kind: Kind
    host: str
    port: int
    source: IPNetwork | None
    raw: bool
    hold_s: float
    host_header: str
    owner: Owner
    gone_at: float | None = None

    @property
    def place(self) -> str:
        """What is held: ``port 80``, ``UDP port 53``, ``https://app.example.org``."""
        if self.kind == "tcp":
            return f"port {self.port}"
        return f"UDP port {self.port}" if self.kind == "udp" else f"{self.kind}://{self.host}"

    def __str__(self) -> str:
        return self.place if self.source is None else f"{self.place} from {self.source}"


@dataclass(frozen=True, slots=True)
class Granted:
    """A claim that is granted, and those that it has taken the place of."""

    claim: Claim
    replaced: tuple[Claim, ...]


class Claims:
    """All claims.

    Args:
        domain: where names without a dot are put below; empty: they are refused.
        http, https: whether host names of each kind are served.
        reserve_s: seconds that a claim is kept while its reverse-proxy is away.
    """

    def __init__(self, *, domain: str, http: bool, https: bool, reserve_s: float) -> None:
        self._domain = domain.lower().strip(".")
        self._served = {"http": http, "https": https}
        self._reserve_s = reserve_s
        self._ports: dict[tuple[Kind, int], SourceTable[Claim]] = {}
        self._names: dict[Kind, NameTable[Claim]] = {"http": NameTable(), "https": NameTable()}
        self._owned: dict[Owner, dict[int, Claim]] = {}
        self._per_key: dict[bytes, int] = {}

    def __len__(self) -> int:
        return sum(self._per_key.values())

    def __iter__(self) -> Iterator[Claim]:
        for claims in self._owned.values():
            yield from claims.values()

    # Asking

    def resolve(self, asked: Expose, listen_host: str, trusted: TrustedKey) -> str | Refusal:
        """Return the full host name that is asked for (empty for a port), or why it may not be.

        Args:
            listen_host: the address that public ports are bound to, for ``permitlisten=``.
            trusted: the key that asks.
        """
        wrong = _what_is_wrong(asked)
        if wrong:
            return Refusal("bad-exposure", f"{_asked(asked)}: {wrong}")
        if asked.kind in _PORT_KINDS:
            return trusted.check_listen(listen_host, asked.port) or ""
        name = self._full_name(asked)
        if isinstance(name, Refusal):
            return name
        return trusted.check_host(name) or name

    def grant(self, asked: Expose, host: str, port: int, owner: Owner) -> Granted | Refusal:
        """Decide on what :meth:`resolve` has passed; the caller binds ports.

        Args:
            host: as :meth:`resolve` gives it.
            port: the port that is asked for, or a free one in place of 0.
        """
        source = parse_network(asked.source) if asked.source else None
        for rival in self._rivals(asked.kind, host, port):
            if rival.owner[0] != owner[0]:
                return self._held(asked, rival)
        replaced = self._predecessors(asked.kind, host, port, source)
        same_id = self._owned.get(owner, {}).get(asked.id)
        if same_id is not None and same_id not in replaced:
            replaced.append(same_id)
        if self._per_key.get(owner[0], 0) - len(replaced) >= MAX_EXPOSURES:
            return Refusal(
                "too-many-exposures", f"{MAX_EXPOSURES} exposures of one key; expose fewer"
            )
        for each in replaced:
            self.withdraw(each)
        claim = Claim(
            asked.id,
            asked.kind,
            host,
            port,
            source,
            asked.raw,
            asked.hold_s,
            asked.host_header,
            owner,
        )
        self._owned.setdefault(owner, {})[claim.id] = claim
        self._per_key[owner[0]] = self._per_key.get(owner[0], 0) + 1
        if claim.kind in _PORT_KINDS:
            self._ports.setdefault((claim.kind, port), SourceTable()).put(source, claim)
        else:
            self._names[claim.kind].put(host, claim)
        return Granted(claim, tuple(replaced))

    # Finding

    def holds(self, kind: Kind, port: int) -> bool:
        """Whether anybody holds the port."""
        return (kind, port) in self._ports

    def port(self, kind: Kind, port: int, source_ip: str) -> Claim | None:
        """Return the claim that admits a visitor from ``source_ip`` at a port."""
        table = self._ports.get((kind, port))
        return None if table is None else table.match(source_ip)

    def name(self, kind: Kind, host: str) -> Claim | None:
        """Return the claim for a host name (lower-case, without port and final dot)."""
        return self._names[kind].match(host)

    def of(self, owner: Owner) -> list[Claim]:
        """Return what one process holds."""
        return list(self._owned.get(owner, {}).values())

    # Losing

    def withdraw(self, claim: Claim) -> None:
        """End a claim; one that has ended is ignored."""
        mine = self._owned.get(claim.owner, {})
        if mine.get(claim.id) is not claim:
            return
        del mine[claim.id]
        if not mine:
            del self._owned[claim.owner]
        self._per_key[claim.owner[0]] -= 1
        if not self._per_key[claim.owner[0]]:
            del self._per_key[claim.owner[0]]
        if claim.kind in _PORT_KINDS:
            table = self._ports[claim.kind, claim.port]
            table.remove(claim.source)
            if not table:
                del self._ports[claim.kind, claim.port]
        else:
            self._names[claim.kind].remove(claim.host)

    def lost(self, owner: Owner, now: float) -> None:
        """Note that a process is away from ``now`` on."""
        for claim in self.of(owner):
            if claim.gone_at is None:
                claim.gone_at = now

    def expired(self, now: float) -> list[Claim]:
        """Return the claims whose reserve is over; they are withdrawn."""
        over = [
            each
            for each in self
            if each.gone_at is not None and now - each.gone_at >= self._reserve_s
        ]
        for each in over:
            self.withdraw(each)
        return over

    # Details

    def _rivals(self, kind: Kind, host: str, port: int) -> Iterator[Claim]:
        """Return the claims that would share visitors with one for ``host`` or ``port``."""
        if kind in _PORT_KINDS:
            table = self._ports.get((kind, port))
            yield from [] if table is None else table.values()
        else:  # a name means the same to a visitor over HTTP and over TLS: both kinds count
            for names in self._names.values():
                yield from names.overlapping(host)

    def _predecessors(
        self, kind: Kind, host: str, port: int, source: IPNetwork | None
    ) -> list[Claim]:
        """Return the claims whose place one for the same would take."""
        if kind not in _PORT_KINDS:
            claim = self._names[kind].get(host)
        elif (table := self._ports.get((kind, port))) is None:
            return []
        elif kind == "udp":
            return table.values()
        else:
            claim = table.get(source)
        return [] if claim is None else [claim]

    def _held(self, asked: Expose, holder: Claim) -> Refusal:
        key = PublicKey(holder.owner[0]).fingerprint
        away = "" if holder.gone_at is None else ", which is away"
        what = "port" if asked.kind in _PORT_KINDS else "name"
        return Refusal(
            "held",
            f"{holder} is held by key {key}{away}; choose another {what}, or stop that one",
        )

    def _full_name(self, asked: Expose) -> str | Refusal:
        if not self._served[asked.kind]:
            flag = "--http-port" if asked.kind == "http" else "--https-port"
            return Refusal(
                "not-served", f"the relay serves no names by {asked.kind}; start it with {flag}"
            )
        name = asked.host.lower().removesuffix(".")
        below = name.removeprefix("*.")
        try:
            valid = asked.host.isascii() and parse_host(below) == below and ":" not in below
        except AddressError:
            valid = False
        if not valid or below.endswith(".") or below.replace(".", "").isdecimal():
            return Refusal(
                "bad-name",
                f"{asked.host!r} is not a host name; write a name such as app, app.example.org or"
                " *.example.org (others in their xn-- form)",
            )
        if "." not in below:
            if not self._domain:
                return Refusal(
                    "no-domain",
                    f"{asked.host!r} has no domain, and the relay none to put it below: give the"
                    " full name, or start the relay with --domain",
                )
            name = f"{name}.{self._domain}"
        if len(name) > LONGEST_NAME:
            return Refusal(
                "bad-name",
                f"{name!r} has {len(name)} characters; a name has {LONGEST_NAME} at most",
            )
        return name


def _what_is_wrong(asked: Expose) -> str:
    """Return why an exposure cannot be meant as it stands; empty if it can."""
    try:
        if asked.source:
            parse_network(asked.source)
    except AddressError as error:
        return f"the source: {error}"
    if asked.raw and asked.kind not in ("tcp", "https"):
        return "only TCP ports and https names can be raw"
    if asked.kind in _PORT_KINDS:
        return "a port has no host name" if asked.host else ""
    if asked.port or asked.source:
        return "a host name has neither port nor source of its own; expose a port for that"
    header = asked.host_header
    try:
        if header and (not header.isprintable() or " " in header):  # the parser below trims
            return f"its Host: {header!r} is none; write one such as app.example.org:8080"
        if header:
            parse_host_port(header, default_port=80)
    except AddressError as error:
        return f"its Host: {error}"
    return ""


def _asked(asked: Expose) -> str:
    return f"port {asked.port}" if asked.kind in _PORT_KINDS else repr(asked.host)
