r"""The options before a key in a trusted keys file; syntax of sshd(8), AUTHORIZED_KEYS FILE FORMAT.

::

    option ["=" value] *("," option ["=" value]) white-space key

Names are case-insensitive. A value stands in double quotes, in which ``\"`` is a quote; one
without commas, quotes and spaces may stand bare. Spaces outside quotes end the options.

===============  ==========================================================================
``from``         addresses it may come from, see :mod:`common.source_patterns`
``permitopen``   destination it may open, ``host:port``, see :mod:`common.destinations`; again
``permitlisten`` public port it may ask for, ``[host:]port``; again
``permithost``   full public host names it may ask for, ``name`` or ``*.name``, a list; again
``expiry-time``  ``YYYYMMDD[HHMM[SS]][Z]``, local time unless ``Z`` (UTC); from then on refused
``role``         what it may be: a list of ``entry-point``, ``reverse-proxy``
``group``        groups it may join: a list of names, with ``*``, ``?`` and ``[seq]``
===============  ==========================================================================

"Again" options may be given several times, the others once. What is left out restricts nothing.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from common.addresses import parse_host
from common.destinations import DestinationPattern, parse_destination_pattern
from common.errors import AddressError, UsageError
from common.openssh_format import shown
from common.source_patterns import SourcePatterns, parse_source_patterns

ROLES = ("entry-point", "reverse-proxy")

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\"|\\(?!"))*)"')
_BARE = re.compile(r'[^\s,"]*')
_TIME = re.compile(r"(\d{8}(?:\d{4}(?:\d{2})?)?)(Z?)", re.ASCII | re.IGNORECASE)
_OPENSSH_ONLY = re.compile(
    r"(no-)?(agent-forwarding|port-forwarding|pty|user-rc|x11-forwarding)|no-touch-required|restrict"
    r"|cert-authority|command|environment|principals|tunnel|verify-required"
)


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """What a key may do; a field at its default restricts nothing.

    Args:
        source: addresses it may come from.
        opens: destinations it may open.
        listens: public addresses and ports it may ask for.
        hosts: public host names it may ask for, lower-case; ``*.name`` is any name below.
        expires_at: seconds since the epoch; from then on the key is refused.
        roles: what it may be.
        groups: patterns of the groups it may join.
    """

    source: SourcePatterns | None = None
    opens: tuple[DestinationPattern, ...] = ()
    listens: tuple[DestinationPattern, ...] = ()
    hosts: tuple[str, ...] = ()
    expires_at: float | None = None
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def admits_group(self, group: str) -> bool:
        """Tell whether the key may join ``group``; names are compared as they are."""
        return not self.groups or any(fnmatch.fnmatchcase(group, each) for each in self.groups)


def split_options(line: str) -> tuple[list[tuple[str, str | None]], str]:
    """Return the options that ``line`` begins with and what follows them.

    Args:
        line: a line of the file that begins with options.

    Returns:
        Pairs of lower-case name and value (``None`` without ``=``), and the rest, stripped.

    Raises:
        UsageError: a quote that is not closed, or something that is not an option.
    """
    options: list[tuple[str, str | None]] = []
    at = 0
    while True:
        name = _NAME.match(line, at)
        if name is None:
            raise UsageError(f'an option should stand at {shown(line[at:])}; write name="value"')
        at, value = name.end(), None
        if line.startswith("=", at):
            value, at = _value(name.group(), line, at + 1)
        options.append((name.group().lower(), value))
        if line.startswith(",", at):
            at += 1
            continue
        if at < len(line) and not line[at].isspace():
            raise UsageError(
                f"a comma should stand at {shown(line[at:])}, after option {name.group()!r}"
            )
        return options, line[at:].strip()


def parse_options(options: list[tuple[str, str | None]]) -> KeyOptions:
    """Return what ``options``, as :func:`split_options` gives them, allow.

    Raises:
        UsageError: an option is unknown, given twice, without its value, or with a wrong one.
    """
    result, seen = KeyOptions(), set[str]()
    for name, value in options:
        if _OPENSSH_ONLY.fullmatch(name):
            raise UsageError(
                f"option {name!r} is OpenSSH's and means nothing here; remove it"
                f" (known are {_known()})"
            )
        if name not in _READERS:
            raise UsageError(f"unknown option {name!r}; known are {_known()}")
        if not value:
            raise UsageError(f'option {name!r} has no value; write {name}="…"')
        if name in seen and name not in _REPEATABLE:
            raise UsageError(f"option {name!r} is given twice; join the two")
        seen.add(name)
        try:
            result = _READERS[name](result, value)
        except AddressError as error:
            raise UsageError(f"{name}=: {error}") from None
    return result


def _value(name: str, line: str, at: int) -> tuple[str, int]:
    """Return the value that begins at ``at`` and where it ends."""
    if not line.startswith('"', at):
        bare = _BARE.match(line, at)
        assert bare is not None  # noqa: S101 - the expression matches the empty string
        return bare.group(), bare.end()
    quoted = _QUOTED.match(line, at)
    if quoted is None:
        raise UsageError(f'the quote of option {name!r} is not closed; write {name}="value"')
    return quoted.group(1).replace('\\"', '"'), quoted.end()


def _source(result: KeyOptions, value: str) -> KeyOptions:
    return replace(result, source=parse_source_patterns(value))


def _permitopen(result: KeyOptions, value: str) -> KeyOptions:
    _one("permitopen", value)
    pattern = parse_destination_pattern(value, port_required=True)
    return replace(result, opens=(*result.opens, pattern))


def _permitlisten(result: KeyOptions, value: str) -> KeyOptions:
    _one("permitlisten", value)
    whole = value.strip()
    with_host = whole if ":" in whole else f"*:{whole}"
    pattern = parse_destination_pattern(with_host, port_required=True)
    return replace(result, listens=(*result.listens, pattern))


def _permithost(result: KeyOptions, value: str) -> KeyOptions:
    hosts = []
    for item in _items(value):
        name = parse_host(item.removeprefix("*."))
        if re.fullmatch(r"[0-9.]+|.*:.*", name):
            raise UsageError(f"permithost=: {item!r} is an address; write a host name")
        hosts.append("*." * item.startswith("*.") + name.removesuffix("."))
    return replace(result, hosts=(*result.hosts, *hosts))


def _expiry_time(result: KeyOptions, value: str) -> KeyOptions:
    match = _TIME.fullmatch(value.strip())
    if match is not None:
        try:
            moment = datetime.strptime(match[1].ljust(14, "0"), "%Y%m%d%H%M%S")
            if match[2]:
                moment = moment.replace(tzinfo=UTC)
            return replace(result, expires_at=moment.timestamp())
        except (ValueError, OverflowError, OSError):
            pass  # no such day or time, or one that the platform's clock cannot count
    raise UsageError(
        f"expiry-time=: not a time: {value!r}; write YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS,"
        " with Z for UTC, such as 20301231Z"
    )


def _role(result: KeyOptions, value: str) -> KeyOptions:
    for item in _items(value):
        if item not in ROLES:
            raise UsageError(f"role=: unknown role {item!r}; known are {', '.join(ROLES)}")
    return replace(result, roles=tuple(_items(value)))


def _group(result: KeyOptions, value: str) -> KeyOptions:
    for item in _items(value):
        if item.startswith("!"):
            raise UsageError(f"group=: {item!r} cannot be negated; list the groups it may join")
    return replace(result, groups=tuple(_items(value)))


def _items(value: str) -> list[str]:
    items = [item.strip() for item in value.split(",")]
    if "" in items:
        raise UsageError(f"an empty item in {value!r}; remove the comma")
    return items


def _one(name: str, value: str) -> None:
    if "," in value:
        first, _, second = value.partition(",")
        raise UsageError(
            f'{name}=: one at a time: {value!r}; write {name}="{first.strip()}",'
            f'{name}="{second.strip()}"'
        )


def _known() -> str:
    return ", ".join(f"{name}=" for name in _READERS)


_READERS: dict[str, Callable[[KeyOptions, str], KeyOptions]] = {
    "from": _source,
    "permitopen": _permitopen,
    "permitlisten": _permitlisten,
    "permithost": _permithost,
    "expiry-time": _expiry_time,
    "role": _role,
    "group": _group,
}
_REPEATABLE = frozenset({"permitopen", "permitlisten", "permithost"})
