"""Asks for a passphrase: hidden and twice on a terminal, otherwise one line from stdin."""

from __future__ import annotations

import getpass
import sys

from common.errors import UsageError
from gen_cert.passphrase import MOST_CHARS

_MOST_BYTES = 4 * MOST_CHARS + 16  # of UTF-8, with a byte order mark and a line end


def read_passphrase() -> str:
    """Return what the user gives, without the line end, otherwise as it is.

    Bytes from a pipe are UTF-8 whatever the locale says, so that they mean the same everywhere;
    what follows the first line is left alone.

    Raises:
        UsageError: the two differ, the input is not UTF-8, or there is none.
        EOFError, KeyboardInterrupt: the user gave up at the prompt.
    """
    if sys.stdin is None:
        raise UsageError("there is no stdin to read the passphrase from; run it at a terminal")
    if not sys.stdin.isatty():
        return _line(sys.stdin.buffer.readline(_MOST_BYTES))
    first = getpass.getpass("Passphrase: ")
    if first != getpass.getpass("The same again: "):
        raise UsageError("the two passphrases differ, so nothing was written; try again")
    return first


def _line(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")  # PowerShell pipes a byte order mark
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the passphrase on stdin is not UTF-8 (byte {error.start + 1}); encode it as UTF-8"
        ) from None
    return text.removesuffix("\n").removesuffix("\r")
