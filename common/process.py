"""What a program asks of its process and operating system, the same on each that has it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable

from common.errors import SettingError
from common.logs import event

_log = logging.getLogger(__name__)


def use_uvloop(choice: str) -> bool:
    """Whether ``--event-loop choice`` means uvloop here.

    Raises:
        SettingError: it was asked for and is not installed.
    """
    if choice == "asyncio":
        return False
    try:
        import uvloop  # noqa: F401 - anyio uses it when told to; here we learn whether it can
    except ImportError:
        if choice == "uvloop":
            raise SettingError(
                "--event-loop: uvloop is not installed; install it with pip install uvloop,"
                " or write --event-loop auto"
            ) from None
        return False
    return True


def on_signal(
    loop: asyncio.AbstractEventLoop, number: signal.Signals, callback: Callable[[], None]
) -> None:
    """Call ``callback`` on the loop at each such signal."""
    try:
        loop.add_signal_handler(number, callback)
    except NotImplementedError:  # Windows
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(callback))


def raise_descriptor_limit() -> None:
    """Allow as many descriptors as the hard limit does: every connection takes at least one."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        event(_log, logging.DEBUG, "descriptor limit stays", limit=soft, reason=error)
    else:
        event(_log, logging.DEBUG, "descriptor limit raised", before=soft, now=hard)


def descriptor_limit() -> int:
    """Return how many descriptors this process may have now."""
    try:
        import resource
    except ImportError:  # Windows
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def fill_standard_descriptors() -> None:
    """Open the null device where stdin, stdout or stderr is closed.

    Otherwise the first connection would become descriptor 2 and receive the log.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
