"""Reads a trusted keys file from the disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from common.errors import KeyFileError
from common.trusted_keys import TrustedKeys, parse_trusted_keys

MOST_BYTES = 16 * 1024 * 1024  # 100,000 keys; more is a wrong file, read by mistake


def load_trusted_keys(path: str | Path) -> TrustedKeys:
    """Return the trusted keys in the file at ``path``.

    As sshd's StrictModes, refuses a file that others than its owner may write (not on Windows):
    whoever can write it decides who comes in.

    Raises:
        KeyFileError: the file is missing, unreadable, too large, or writable by others.
        TrustedKeysError: its contents do not parse.
    """
    name = str(path)
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if os.name == "posix" and mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise KeyFileError(
                    f"{name}: others may write this file (mode {stat.S_IMODE(mode):04o}) and so"
                    f" decide who comes in; run: chmod go-w {name}"
                )
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise KeyFileError(
            f"{name}: no such file; make a key with `gen-cert ed25519`, or name a file with one"
            " public key a line"
        ) from None
    except IsADirectoryError:
        raise KeyFileError(
            f"{name}: a directory; name the file in it, such as {Path(path) / 'auth.pub'}"
        ) from None
    except PermissionError:
        raise KeyFileError(f"{name}: may not be read; run: chmod u+r {name}") from None
    except OSError as error:
        raise KeyFileError(f"{name}: cannot be read: {error.strerror}; name another file") from None
    if len(data) > MOST_BYTES:
        raise KeyFileError(
            f"{name}: larger than {MOST_BYTES} bytes; name a file with one public key a line"
        )
    return parse_trusted_keys(data, name)
