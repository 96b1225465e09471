"""Many clients in one process: ``python -m tests.battery.crowd RELAY COUNT POOL``.

They are what the programs run, ``serve()`` with settings of its own for each, and share nothing but
the loop: two hundred interpreters would measure how they start, and leave the relay no core.
Half are reverse-proxies and half entry-points, in groups of two. The moment (monotonic, in seconds)
at which a client has a relay, for the first time or again, is a line on stderr.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from typing import Any

import anyio

import entry_point.app
import reverse_proxy.app
from common.process import raise_descriptor_limit, use_uvloop
from common.sd_notify import Notifier
from common.service import Service
from entry_point.settings import EntryPointSettings
from reverse_proxy.settings import ReverseProxySettings

NAME = "tests.battery.crowd"


class Quiet(Service):
    """A service that keeps its ready line to itself."""

    def ready(self, text: str) -> None:
        pass


class Moments(logging.Handler):
    """Tells when a client has a relay."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "relay connected":
            print("connected", time.monotonic(), file=sys.stderr, flush=True)


async def main(relay: str, count: int, pool: int) -> None:
    async with anyio.create_task_group() as tasks:

        async def one(number: int) -> None:
            common: dict[str, Any] = {
                "server_address": (relay,),
                "group_id": str(number // 2),
                "pool": pool,
            }
            service = Quiet(NAME, 0, Notifier({}))
            await anyio.sleep(random.random() * count / 100)  # they began at any time
            if number % 2:
                await reverse_proxy.app.serve(ReverseProxySettings(**common), service)
            else:
                settings = EntryPointSettings(routes=("0:9",), bind="127.0.0.1", **common)
                await entry_point.app.serve(settings, service)

        for number in range(count):
            tasks.start_soon(one, number)
        print(f"{NAME} ready {count} clients", flush=True)


if __name__ == "__main__":
    logging.getLogger().addHandler(Moments())
    logging.getLogger().setLevel(logging.INFO)
    raise_descriptor_limit()
    anyio.run(
        main,
        sys.argv[1],
        int(sys.argv[2]),
        int(sys.argv[3]),
        backend_options={"use_uvloop": use_uvloop("auto")},
    )
