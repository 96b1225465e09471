"""The names and addresses a certificate is valid for (RFC 5280 section 4.2.1.6)."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from common.errors import SettingError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_MOST_NAME_CHARS = 253  # RFC 1035 section 2.3.4, without the root's dot
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")  # RFC 1123, and Docker's "_"
_DEVIATIONS = re.compile("[\u00df\u03c2\u200c\u200d]")  # UTS #46 section 1.4: no two agree on them


@dataclass(frozen=True, slots=True)
class Names:
    """What a certificate is valid for; at least one in all, none twice.

    Args:
        dns: lower-case A-labels (RFC 5890), possibly with a leading ``*.``.
        ips: addresses without a zone.
    """

    dns: tuple[str, ...]
    ips: tuple[IPAddress, ...]

    def __str__(self) -> str:
        return ", ".join([*self.dns, *map(str, self.ips)])


def parse_names(dns: Iterable[str], ips: Iterable[str]) -> Names:
    """Return the names for the values of ``--dns`` and ``--ip``.

    Raises:
        SettingError: one of them is no such name or address.
    """
    return Names(
        tuple(dict.fromkeys(map(parse_dns, dns))), tuple(dict.fromkeys(map(parse_ip, ips)))
    )


def default_names(host: str) -> Names:
    """Return the names for when the user gives none: the loopback's, and ``host`` if it is one."""
    own: list[str] = []
    with contextlib.suppress(SettingError):  # a host may be called anything
        own.append(parse_dns(host))
    loopback = (ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1"))
    return Names(tuple(dict.fromkeys(["localhost", *own])), loopback)


def parse_dns(text: str) -> str:
    """Return a DNS name as certificates hold it: ``Bücher.example.`` -> ``xn--bcher-kva.example``.

    Raises:
        SettingError: not a host name, or a wildcard that clients do not match.
    """
    wildcard, name = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    name = name.removesuffix(".")
    if _is_ip(name):
        raise _bad_name(text, f"it is an address; use --ip {name}")
    if "*" in name:
        raise _bad_name(text, "a wildcard stands for the whole first label: *.example.com")
    if _DEVIATIONS.search(name):
        raise _bad_name(text, "programs differ in how they encode it; write its xn--… form")
    if not name.isascii() and len(name) <= _MOST_NAME_CHARS:
        try:
            name = name.encode("idna").decode()  # as Python's own socket and ssl do
        except UnicodeError as error:
            raise _bad_name(text, f"it cannot be encoded ({error}); write its xn--… form") from None
    name = name.lower()
    labels = name.split(".")
    if len(wildcard + name) > _MOST_NAME_CHARS:
        raise _bad_name(text, f"it has more than {_MOST_NAME_CHARS} characters")
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise _bad_name(
                text, f"{label[:70]!r} is not 1 to 63 letters, digits and inner hyphens"
            )
    if labels[-1].isdigit():
        raise _bad_name(text, "it ends in a number; an address goes to --ip")
    if wildcard and len(labels) < 2:  # OpenSSL wants two dots after the star
        raise _bad_name(text, "clients match no wildcard that wide; write *.example.com")
    return wildcard + name


def parse_ip(text: str) -> IPAddress:
    """Return an IP address; IPv6 may stand in brackets.

    Raises:
        SettingError: not an address, or one with a zone.
    """
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if "%" in bare:
        raise SettingError(
            f"--ip: {_cut(text)} has a zone, which certificates cannot hold; leave out % and the "
            "rest"
        )
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        raise SettingError(
            f"--ip: {_cut(text)} is not an IP address; write one such as 203.0.113.7 or "
            "2001:db8::7, and names with --dns"
        ) from None


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _bad_name(text: str, reason: str) -> SettingError:
    return SettingError(f"--dns: {_cut(text)} is not a host name: {reason}")


def _cut(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
