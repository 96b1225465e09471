"""Many clients in one process: ``python -m tests.battery.crowd RELAY COUNT POOL SOURCES``.

They are what the programs run, ``serve()`` with settings of its own for each, and share nothing but
the loop: two hundred interpreters would measure how they start, and leave the relay no core. They
dial from SOURCES addresses, 127.0.1.0 and up. Half are reverse-proxies and half entry-points, in
groups of two. Each login is a line on stderr: the number of the client, and the moment (monotonic,
in seconds).
"""

from __future__ import annotations

import random
import socket
import sys
import time
from contextvars import ContextVar
from typing import Any

import aiohappyeyeballs
import anyio

import common.link
import common.link_pool
import entry_point.app
import reverse_proxy.app
from common.link import Link
from common.process import raise_descriptor_limit, use_uvloop
from common.sd_notify import Notifier
from common.service import Service
from entry_point.settings import EntryPointSettings
from reverse_proxy.settings import ReverseProxySettings

NAME = "tests.battery.crowd"


own_number: ContextVar[int] = ContextVar("own_number")
"""Which client runs; its tasks inherit it."""
start_connection = aiohappyeyeballs.start_connection


async def dial(addresses: Any, **options: Any) -> socket.socket:
    """Be ``aiohappyeyeballs.start_connection`` of a machine with an address of its own."""
    host = f"127.0.1.{own_number.get() % int(sys.argv[4])}"
    mine = (socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, 0))
    return await start_connection(addresses, local_addr_infos=[mine], **options)


async def login(*what: Any) -> Link:
    """Be ``common.link.login``, and tell when it succeeded."""
    link = await common.link.login(*what)
    print("login", own_number.get(), time.monotonic(), file=sys.stderr, flush=True)
    return link


class Quiet(Service):
    """A service that keeps its ready line to itself."""

    def ready(self, text: str) -> None:
        pass


async def main(relay: str, count: int, pool: int) -> None:
    aiohappyeyeballs.start_connection = dial  # type: ignore[assignment]
    common.link_pool.login = login  # type: ignore[attr-defined,assignment]
    async with anyio.create_task_group() as tasks:

        async def one(number: int) -> None:
            shared: dict[str, Any] = {
                "server_address": (relay,),
                "group_id": str(number // 2),
                "pool": pool,
            }
            own_number.set(number)
            service = Quiet(NAME, 0, Notifier({}))
            await anyio.sleep(random.random() * count / 100)  # they began at any time
            if number % 2:
                await reverse_proxy.app.serve(ReverseProxySettings(**shared), service)
            else:
                settings = EntryPointSettings(routes=("0:9",), bind="127.0.0.1", **shared)
                await entry_point.app.serve(settings, service)

        for number in range(count):
            tasks.start_soon(one, number)
        print(f"{NAME} ready {count} clients", flush=True)


if __name__ == "__main__":
    raise_descriptor_limit()
    anyio.run(
        main,
        sys.argv[1],
        int(sys.argv[2]),
        int(sys.argv[3]),
        backend_options={"use_uvloop": use_uvloop("auto")},
    )
