"""Make text from a peer safe to show: on a terminal, and as one line of a log."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_WORD = re.compile(r'[^\s"=\\]+')


def printable(text: str) -> str:
    r"""Escape every character that does not print as itself: ``"\x1b[2J"`` -> ``"\\x1b[2J"``.

    These are control characters (C0, DEL, C1), line and paragraph separators, bidirectional
    overrides and other invisible format characters, and lone surrogates. Backslashes stay single.
    """
    return text if text.isprintable() else "".join(_each(text, _escape))


def logfmt(text: str) -> str:
    """One value of a ``key=value`` line: printable, and in double quotes when it is not a word."""
    if text.isprintable() and _WORD.fullmatch(text):
        return text
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(plain)}"'


def printable_json(text: str) -> str:
    """Escape, in JSON text, what JSON allows to stand bare but a terminal would obey."""
    return text if text.isprintable() else "".join(_each(text, _json_escape))


def _each(text: str, escape: Callable[[str], str]) -> Iterator[str]:
    return (char if char.isprintable() else escape(char) for char in text)


def _escape(char: str) -> str:
    code = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
