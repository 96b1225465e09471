"""A tiny program for the process tests: ``python -m tests.common.service_program MODE [GRACE]``."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time

import anyio

from common.errors import UsageError
from common.logs import STDOUT, write_all
from common.service import Service, run_program
from common.settings import CommonSettings


async def main(service: Service) -> None:
    mode = sys.argv[1]
    loop = asyncio.get_running_loop()
    service.on_reload(lambda: _reload(mode))
    if mode == "usage":
        async with anyio.create_task_group() as inner, anyio.create_task_group():
            inner.start_soon(_fail, UsageError("--port: 1 is taken;\nchoose another"))
    if mode == "crash":
        async with anyio.create_task_group() as inner:
            inner.start_soon(_fail, RuntimeError("unexpected"))
    if mode == "crash-twice":
        raise BaseExceptionGroup("both", [RuntimeError("one"), RuntimeError("two")])
    if mode == "callback":
        loop.call_soon(_raise, ZeroDivisionError("in a callback"))
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    service.status("0 links")
    service.status("0 links")
    service.ready(f"on 127.0.0.1:1 {type(loop).__module__.split('.')[0]} {soft}\n")
    if mode == "return":
        return
    await service.stopping.wait()
    if mode == "hang":
        await anyio.sleep_forever()
    if mode == "stubborn":
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()
    if mode == "thread":
        loop.run_in_executor(None, time.sleep, 3600)


async def _fail(error: Exception) -> None:
    raise error


def _raise(error: Exception) -> None:
    raise error


async def _reload(mode: str) -> None:
    write_all(STDOUT, "reloading\n")
    if mode == "bad-reload":
        raise UsageError("keys.txt:7: not a key")
    if mode == "crash-reload":
        raise RuntimeError("unexpected")


if __name__ == "__main__":
    settings = CommonSettings(
        log_level="debug",
        grace=float(os.environ.get("GRACE", "60")),
        event_loop="asyncio" if os.environ.get("LOOP") == "asyncio" else "auto",
    )
    sys.exit(run_program("tiny", settings, main))
