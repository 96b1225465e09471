"""Claims of ports and names, asked for in short."""

from __future__ import annotations

from common.refusals import Refusal
from common.trusted_keys import TrustedKey, parse_trusted_keys
from common.wire import Expose, Kind
from relay_server.public.claims import Claims, Granted, Owner
from tests.relay_server.owners import KEYS

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
