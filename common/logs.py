"""Where log lines come from and where they go: one line an event, to stderr.

``configure`` once, then ``event`` anywhere. A reader of stderr that is gone never ends a program:
lines are written straight to the descriptor, and what cannot be written is dropped.
"""

from __future__ import annotations

import logging
import os
import sys
import time

from common.log_budget import LogBudget
from common.log_format import EventRecord, QuickRecord, Record, Render, json_lines, plain, terminal
from common.printable import printable

STDOUT, STDERR = 1, 2

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure(level: str, fmt: str, program: str, *, fd: int = STDERR) -> None:
    """Send the log of this process to a descriptor.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``; what is less important is dropped.
        fmt: ``json``, or ``text``: in colour and local time on a terminal, plain and UTC elsewhere.
        program: its name, a member of each JSON object.
        fd: an open descriptor, which stays the caller's.
    """
    if fmt == "json":
        render = json_lines(program)
    elif _is_terminal(fd):
        render = terminal()
    else:
        render = plain
    # Nobody prints these, and each record would pay for them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    if sys.version_info >= (3, 12):
        logging.logAsyncioTasks = False
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _DescriptorHandler)]:
        root.removeHandler(handler)
    root.addHandler(_DescriptorHandler(fd, render))
    root.setLevel(_LEVELS[level])
    # asyncio says "Using selector: …" at debug, before anything of ours.
    logging.getLogger("asyncio").setLevel(max(_LEVELS[level], logging.INFO))


def event(
    logger: logging.Logger,
    level: int,
    message: str,
    /,
    *,
    budget_key: str | None = None,
    exception: BaseException | None = None,
    **fields: object,
) -> None:
    """Write one line: the message, then ``key=value`` for each field that is not ``None``.

    Args:
        logger: its level and handlers decide, as ever.
        level: ``logging.INFO`` and so on.
        message: constant text; what varies goes into the fields.
        budget_key: lines with the same key share a :class:`LogBudget`. When it is spent, lines are
            only counted, and :func:`flush_summaries` tells how many: for whatever a peer can make
            happen as often as it likes. Take a key without the peer's address to sum up all peers.
        exception: write its traceback below the line (as a member of the object, in JSON).
        fields: text is escaped, floats have three decimals at most, bytes are read as UTF-8.
    """
    if not logger.isEnabledFor(level):
        return
    if budget_key is not None and not _budget.admit(budget_key, time.monotonic()):
        _suppressed[_budget.filed_under(budget_key)] = (logger, level, message)
        return
    shown = {key: value for key, value in fields.items() if value is not None}
    only = _only_handler(logger)
    if only is not None and exception is None:
        only.write(QuickRecord(level, message, shown))
        return
    logger.handle(EventRecord(logger.name, level, message, shown, exception))


def flush_summaries(now: float) -> None:
    """Write ``suppressed 993 more like it`` for every budget whose window has ended at ``now``.

    Call it every few seconds, and with ``math.inf`` at the end. ``now`` is ``time.monotonic()``.
    """
    for key, count in _budget.summaries(now):
        logger, level, message = _suppressed[key]
        text = f"suppressed {count} more like it"
        event(logger, level, text, like=message, budget=None if key == message else key)
    for key in [key for key in _suppressed if key not in _budget]:
        del _suppressed[key]


def _only_handler(logger: logging.Logger) -> _DescriptorHandler | None:
    """Return our handler if it is the only one that would be asked, as it is in the programs."""
    root = logging.root
    if logger.handlers or logger.filters or logger.parent is not root or len(root.handlers) != 1:
        return None
    handler = root.handlers[0]
    return handler if isinstance(handler, _DescriptorHandler) and logger.propagate else None


class _DescriptorHandler(logging.Handler):
    def __init__(self, fd: int, render: Render) -> None:
        super().__init__()
        self._fd, self._render = fd, render

    def emit(self, record: logging.LogRecord) -> None:
        self.write(record)

    def write(self, record: Record) -> None:
        try:
            line = self._render(record)
        except Exception as error:  # noqa: BLE001 - a value whose str() fails must not end a program
            line = f"{record.levelname.lower()} a log line could not be written: {error!r}\n"
        write_all(self._fd, line)


def write_all(fd: int, text: str) -> bool:
    """Write ``text`` as UTF-8 to a blocking descriptor; ``False`` if its reader is gone.

    Unlike ``sys.stderr.write`` it leaves nothing in a buffer that would fail again at exit.
    """
    data = text.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        return False
    return True


def print_error(program: str, message: str) -> None:
    """Write ``program: error: message`` as one line on stderr, with everything escaped."""
    write_all(STDERR, f"{program}: error: {printable(message)}\n")


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


_budget = LogBudget()
_suppressed: dict[str, tuple[logging.Logger, int, str]] = {}
