"""Turns the host of a destination into addresses."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from common.addresses import parse_host
from common.errors import AddressError
from common.name_lookup import look_up
from common.refusals import Refusal

RESOLVE_TIMEOUT_S: Final = 10.0


def literal(host: str) -> tuple[str, bool] | Refusal:
    """Return the host in its plain form and whether it is an address, or why it is no host.

    What the C library makes of other text (127.1, a NUL in a name) is nobody's business.
    """
    try:
        plain = parse_host(host)
    except AddressError as error:
        return Refusal("unresolved", f"cannot resolve this here: {error}")
    return plain, is_address(plain)


async def resolve(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[str] | Refusal:
    """Return the addresses of a name, each once, or why there are none."""
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            # As bytes: a name from a peer is ASCII or no name (and IDNA costs 1 MiB).
            name = host.encode("ascii")
            found = await look_up(loop, name, port)
    except (OSError, UnicodeError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or "no answer"
        return Refusal("unresolved", f"cannot resolve {host!r} here: {reason}")
    return list(dict.fromkeys(str(each[4][0]) for each in found))


@lru_cache(maxsize=1024)
def is_address(host: str) -> bool:
    """Whether ``host`` is an IP address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
