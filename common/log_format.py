"""One log record to one line of text: for a terminal, a file, or a machine.

Everything variable is escaped here (:mod:`common.printable`), so nothing a peer sent can move a
cursor, forge a line or hide in one.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Mapping

import msgspec

from common.printable import logfmt, printable, printable_json

Fields = Mapping[str, object]


class QuickRecord:
    """What a renderer needs of a record and no more: a ``LogRecord`` costs four times as much."""

    __slots__ = ("_message", "created", "fields", "levelno")

    exc_info = None

    def __init__(self, level: int, message: str, fields: Fields) -> None:
        self.levelno, self._message, self.fields = level, message, fields
        self.created = time.time()

    @property
    def levelname(self) -> str:
        """The level's name."""
        return logging.getLevelName(self.levelno)

    def getMessage(self) -> str:  # noqa: N802 - as LogRecord has it
        """Return the message."""
        return self._message


Record = logging.LogRecord | QuickRecord
Render = Callable[[Record], str]

SECRETS = frozenset({"passphrase", "password", "secret", "token", "seed", "private_key"})
"""Names of fields whose values are never written, whoever passes them."""

_WORDS = {10: "debug", 20: "info ", 30: "warn ", 40: "error", 50: "fatal"}
_NAMES = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "fatal"}
_STYLES = {10: "dim", 20: "green", 30: "bold yellow", 40: "bold red", 50: "bold red"}


class EventRecord(logging.LogRecord):
    """A record with fields, made without the stack walk that ``Logger.info`` does."""

    fields: Fields

    def __init__(
        self,
        name: str,
        level: int,
        message: str,
        fields: Fields,
        exception: BaseException | None = None,
    ) -> None:
        trace = (type(exception), exception, exception.__traceback__) if exception else None
        super().__init__(name, level, "", 0, message, None, trace)
        self.fields = fields


def plain(record: Record) -> str:
    """``2026-11-21T03:00:00.123Z info  message key=value`` and a line feed; UTC."""
    word = _WORDS.get(record.levelno) or record.levelname.lower()
    line = f"{_stamp(record.created)}Z {word} {printable(record.getMessage())}"
    for key, value in _fields(record).items():
        quick = type(value) is int and key not in SECRETS  # nothing to escape or to hide
        text = str(value) if quick else logfmt(_text(key, value))
        line += f" {key}={text}"
    return f"{line}\n{_trace(record)}"


def json_lines(program: str) -> Render:
    """A renderer for one JSON object a line: time, level, program, message, then the fields.

    A field with one of these four names gets an underscore after it.
    """

    def render(record: Record) -> str:
        document: dict[str, object] = {
            "time": _stamp(record.created) + "Z",
            "level": _NAMES.get(record.levelno) or record.levelname.lower(),
            "program": program,
            "message": record.getMessage(),
        }
        for key, value in _fields(record).items():
            name = f"{key}_" if key in document else key
            exact = type(value) in (int, bool, float) and key not in SECRETS
            document[name] = value if exact else _text(key, value)
        if record.exc_info:
            document["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        try:
            text = msgspec.json.encode(document).decode()
        except UnicodeEncodeError:  # a lone surrogate, from a file name that is not UTF-8
            safe = {k: printable(v) if isinstance(v, str) else v for k, v in document.items()}
            text = msgspec.json.encode(safe).decode()
        return printable_json(text) + "\n"

    return render


def terminal() -> Render:
    """A renderer for people: local time, colours that rich finds this terminal to have.

    ``NO_COLOR``, ``TERM=dumb`` and old Windows consoles get the same lines without colours. rich
    is asked once; a line then costs no more than a plain one.
    """
    from rich.color import ColorSystem
    from rich.console import Console
    from rich.style import Style

    console = Console(stderr=True)
    coloured = console.color_system is not None and not console.no_color
    system = ColorSystem.STANDARD if coloured and not console.legacy_windows else None

    def around(style: str) -> tuple[str, str]:
        before, _, after = Style.parse(style).render("\0", color_system=system).partition("\0")
        return before, after

    dim, undim = around("dim")
    key_on, key_off = around("cyan")
    words = {level: _WORDS[level].join(around(style)) for level, style in _STYLES.items()}

    def render(record: Record) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        millis = int(record.created % 1 * 1000)
        word = words.get(record.levelno) or record.levelname.lower()
        line = f"{dim}{clock}.{millis:03}{undim} {word} {printable(record.getMessage())}"
        for key, value in _fields(record).items():
            line += f" {key_on}{key}{key_off}{dim}={undim}{logfmt(_text(key, value))}"
        return f"{line}\n{_trace(record)}"

    return render


def _fields(record: Record) -> Fields:
    return record.fields if isinstance(record, EventRecord | QuickRecord) else {}


def _text(key: str, value: object) -> str:
    if key in SECRETS:
        return "***"
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _trace(record: Record) -> str:
    """The traceback, each line behind a bar so that none can pass for a log line."""
    if not record.exc_info:
        return ""
    lines = "".join(traceback.format_exception(*record.exc_info)).splitlines()
    return "".join(f"    | {printable(line)}\n" for line in lines)


_second, _second_text = -1, ""


def _stamp(created: float) -> str:
    """``2026-11-21T03:00:00.123``; the part before the dot is made once a second."""
    global _second, _second_text
    second = int(created)
    if second != _second:
        _second, _second_text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return f"{_second_text}.{int((created - second) * 1000):03}"
