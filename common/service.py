"""What every long-running program does around its own work: start, signals, reload, end.

The end, in this order: the first SIGTERM or SIGINT sets ``stopping`` and the program drains for
``grace`` seconds by itself; if it has not ended a little later it is cancelled; a second signal
cancels it at once, and whatever will not end within a second after that is cut off. The exit status
is 0 each time: the user got what was asked for.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.abc

from common.errors import UsageError
from common.logs import STDOUT, configure, event, flush_summaries, print_error, write_all
from common.printable import printable
from common.process import (
    fill_standard_descriptors,
    on_signal,
    raise_descriptor_limit,
    use_uvloop,
)
from common.sd_notify import Notifier
from common.settings import CommonSettings

Main = Callable[["Service"], Awaitable[None]]
Reload = Callable[[], Awaitable[None] | None]

SUMMARY_INTERVAL_S = 2.0
OVERTIME_S = 3.0
"""How long after its grace a program may still tidy up before it is cancelled."""
CUT_OFF_S = 1.0
"""How long the process may take to end once ``main`` has ended or is being cancelled."""

_log = logging.getLogger(__name__)


class Service:
    """A running program, as its ``main`` sees it. Made by :func:`run_program`.

    Attributes:
        program: the name that the user typed.
        grace: seconds that open streams may go on once ``stopping`` is set.
        stopping: set by the first SIGTERM or SIGINT.
    """

    def __init__(self, program: str, grace: float, notifier: Notifier) -> None:
        self.program, self.grace = program, grace
        self.stopping = anyio.Event()
        self._notifier = notifier
        self._reloads: list[Reload] = []
        self._reload_wanted = anyio.Event()
        self._scope = anyio.CancelScope()
        self.ended_at_once = False

    def ready(self, text: str) -> None:
        """Tell the user and the service manager that the program can be used.

        Args:
            text: what it is bound to; printed as ``<program> ready <text>``, one line on stdout.
        """
        write_all(STDOUT, f"{self.program} ready {printable(text)}\n")
        self._notifier.ready()

    def status(self, text: str) -> None:
        """Give the service manager one line on how things are; a repetition costs nothing."""
        self._notifier.status(text)

    def on_reload(self, callback: Reload) -> None:
        """Call ``callback`` (and await what it returns) at each SIGHUP, in the order registered.

        An error from it is logged and the program goes on as it was.
        """
        self._reloads.append(callback)

    async def run(self, main: Main) -> None:
        """Run ``main`` among the helpers below until it returns, fails or is ended by signals."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_loop_error)
        on_signal(loop, signal.SIGTERM, self._stop)
        on_signal(loop, signal.SIGINT, self._stop)
        if hasattr(signal, "SIGHUP"):
            on_signal(loop, signal.SIGHUP, lambda: self._reload_wanted.set())
        async with anyio.create_task_group() as helpers:
            helpers.start_soon(self._summarise)
            helpers.start_soon(self._reload)
            helpers.start_soon(self._end_after_grace)
            if self._notifier.watchdog_s:
                helpers.start_soon(self._watchdog, self._notifier.watchdog_s / 2)
            try:
                with self._scope:
                    await main(self)
                if self.stopping.is_set():
                    self._cut_off()
            finally:
                self._notifier.stopping()
                helpers.cancel_scope.cancel()

    def _stop(self) -> None:
        if not self.stopping.is_set():
            event(_log, logging.INFO, f"stopping: {self.grace:g} s grace")
            self._notifier.stopping()
            self.stopping.set()
            return
        if not self.ended_at_once:
            event(_log, logging.INFO, "stopping at once: second signal")
        self._cancel()

    def _cancel(self) -> None:
        self.ended_at_once = True
        self._scope.cancel()
        self._cut_off()

    def _cut_off(self) -> None:
        """End the process soon, whatever still hangs: a task, or a thread in getaddrinfo."""
        timer = threading.Timer(CUT_OFF_S, os._exit, (0,))
        timer.daemon = True
        timer.start()

    async def _end_after_grace(self) -> None:
        await self.stopping.wait()
        await anyio.sleep(self.grace + OVERTIME_S)
        event(_log, logging.WARNING, "not ended within the grace; cutting off what is left")
        self._cancel()

    async def _reload(self) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted = anyio.Event()
            if not self._reloads:
                event(_log, logging.DEBUG, "SIGHUP ignored: nothing to reload")
                continue
            self._notifier.reloading()
            try:
                for callback in self._reloads:
                    if (pending := callback()) is not None:
                        await pending
            except UsageError as error:
                event(_log, logging.ERROR, "not reloaded; all stays as it was", reason=error)
            except Exception as error:  # noqa: BLE001 - a reload must not end what already works
                event(_log, logging.ERROR, "not reloaded: internal error", exception=error)
            else:
                event(_log, logging.INFO, "reloaded")
            self._notifier.ready()

    async def _summarise(self) -> None:
        while True:
            await anyio.sleep(SUMMARY_INTERVAL_S)
            flush_summaries(time.monotonic())

    async def _watchdog(self, interval_s: float) -> None:
        while True:
            self._notifier.watchdog()
            await anyio.sleep(interval_s)


def run_program(program: str, settings: CommonSettings, main: Main) -> int:
    """Run ``main`` to its end on an event loop and return the exit status of the process.

    Args:
        program: its name, for the ready line, the log and errors.
        settings: log level and format, grace and event loop are taken from it.
        main: the program's own work; it should return soon after ``service.stopping`` is set.

    Returns:
        0 when ``main`` returned or a signal ended it; 2 when it raised a :class:`UsageError`,
        which is one line on stderr; 1 after any other exception, logged with its traceback.
    """
    fill_standard_descriptors()
    configure(settings.log_level, settings.log_format, program)
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    raise_descriptor_limit()
    notifier = Notifier()
    stopping = ended_at_once = False

    async def run() -> None:
        nonlocal stopping, ended_at_once
        service = Service(program, settings.grace, notifier)
        try:
            await service.run(main)
        finally:
            stopping, ended_at_once = service.stopping.is_set(), service.ended_at_once

    status = 0
    try:
        options = {"use_uvloop": use_uvloop(settings.event_loop)}
        anyio.run(run, backend="asyncio", backend_options=options)
    except BaseException as error:  # noqa: BLE001 - the outermost place: everything ends here
        status = 0 if ended_at_once else _report(program, error)
    if stopping:  # the loop's handlers are gone; an impatient second Ctrl-C changes nothing now
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    notifier.close()
    flush_summaries(math.inf)
    return status


def _report(program: str, error: BaseException) -> int:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, UsageError):
        print_error(program, str(error))
        return 2
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, KeyboardInterrupt):  # Ctrl-C before the handlers were there
        return 0
    _log.critical("%s ended by an error", program, exc_info=error)
    return 1


def _log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A callback failed. That is our mistake, but not a reason to drop everybody's streams."""
    error = context.get("exception")
    event(
        _log,
        logging.ERROR,
        "internal error in a callback",
        budget_key="internal error",
        exception=error,
        what=context.get("message"),
    )
