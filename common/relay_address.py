"""Dialling a relay: names resolved anew each time, both address families raced (RFC 8305)."""

from __future__ import annotations

import asyncio
import os
import socket

import aiohappyeyeballs
import anyio

from common.addresses import HostPort
from common.errors import LinkLost
from common.name_lookup import look_up
from common.sockets import tune

ATTEMPT_DELAY_S = 0.25
"""Seconds before the next address is tried beside the one that has not answered (RFC 8305, 5)."""
RESOLVE_S = 8.0
"""Seconds for the name: a lost question is repeated after 5 (resolv.conf), and a login has 10."""


async def connect(relay: HostPort) -> socket.socket:
    """Return a connected, non-blocking socket to the relay; deadlines are the caller's.

    Raises:
        LinkLost: the name does not resolve, or no address answers; the message says which.
    """
    loop = asyncio.get_running_loop()
    try:
        # As bytes: for text Python loads its whole IDNA machinery (1 MiB), even for plain ASCII.
        host = relay.host.encode("ascii")
        with anyio.fail_after(RESOLVE_S):
            addresses = await look_up(loop, host, relay.port)
    except OSError as error:  # TimeoutError is one
        reason = error.strerror or f"no answer within {RESOLVE_S:g} s"
        raise LinkLost(
            f"cannot resolve the relay's name {relay.host}: {reason}; check "
            "--server-address and this machine's DNS"
        ) from None
    try:
        sock = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=ATTEMPT_DELAY_S, interleave=1
        )
        tune(sock)
    except OSError as error:
        # asyncio and uvloop word the error differently; the number is the same.
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise LinkLost(
            f"cannot reach the relay at {relay}: {reason}; is relay-server running there, and does "
            "the firewall let its port through?"
        ) from None
    return sock
