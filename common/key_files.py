"""Reads and writes key files; what is in them is :mod:`common.keys`' business.

A private key that others can read is refused, as ``ssh`` does: a program that used it in silence
would vouch for a key that may be anybody's by now.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from common.errors import KeyFileError
from common.keys import Identity, PublicKey, parse_identity, parse_public_key
from common.new_files import PRIVATE_MODE, PUBLIC_MODE, NewFile, write_new

MOST_BYTES = 64 * 1024
"""Most bytes in a key file. One key has 500; more is a wrong file, read by mistake."""


def load_identity(path: str | Path) -> Identity:
    """Return the identity in the private key file at ``path``.

    Raises:
        KeyFileError: the file is missing, unreadable, accessible to others (see
            :func:`check_private`), or holds no usable key. The message begins with the path.
    """
    data = _read(path, private=True)
    try:
        return parse_identity(data, shlex.quote(str(path)))
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}") from None


def load_public_key(path: str | Path) -> PublicKey:
    """Return the key in the public key file at ``path``, which holds that key alone.

    Raises:
        KeyFileError: the file is missing, unreadable, or holds no usable key. The message begins
            with the path.
    """
    data = _read(path, private=False)
    try:
        return parse_public_key(data)
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}") from None


def check_private(path: str | Path) -> None:
    """Check that only its owner can read or write the file at ``path`` (not on Windows).

    For private keys that somebody else opens by their path, such as ``ssl`` the relay's.

    Raises:
        KeyFileError: others have any access, or the file is missing or no file.
    """
    try:
        _check_mode(os.stat(path), path, private=True)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def write_private(path: str | Path, data: bytes, *, force: bool = False) -> None:
    """Write a private key file with mode 0600; whole or not at all.

    Raises:
        KeyFileError: it exists and ``force`` is not set, or it cannot be written.
    """
    write_new([NewFile(Path(path), data, PRIVATE_MODE)], force=force)


def write_public(path: str | Path, data: bytes, *, force: bool = False) -> None:
    """Write a public key or certificate file with mode 0644; whole or not at all.

    Raises:
        KeyFileError: it exists and ``force`` is not set, or it cannot be written.
    """
    write_new([NewFile(Path(path), data, PUBLIC_MODE)], force=force)


def _read(path: str | Path, *, private: bool) -> bytes:
    try:
        # Before opening: a named pipe would block. After opening: that is the file that is read.
        _check_mode(os.stat(path), path, private=private)
        with open(path, "rb") as file:
            _check_mode(os.fstat(file.fileno()), path, private=private)
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if not data.strip():
        raise KeyFileError(f"{path}: an empty file; {_make(path)}, or copy the key again")
    if len(data) > MOST_BYTES:
        raise KeyFileError(f"{path}: larger than {MOST_BYTES} bytes, so not a key; name another")
    return data


def _check_mode(status: os.stat_result, path: str | Path, *, private: bool) -> None:
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        name = "auth" if private else "auth.pub"
        raise KeyFileError(f"{path}: a directory; name the file in it, such as {Path(path, name)}")
    if not stat.S_ISREG(mode):
        raise KeyFileError(f"{path}: not a regular file; copy the key to one and name that")
    if private and os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileError(
            f"{path}: a private key that others can read or write (mode "
            f"{stat.S_IMODE(mode):04o}); run: chmod 600 {shlex.quote(str(path))}"
        )


def _unreadable(path: str | Path, error: OSError | ValueError) -> KeyFileError:
    if isinstance(error, FileNotFoundError):
        return KeyFileError(f"{path}: no such file; {_make(path)}, or name another")
    if isinstance(error, PermissionError):
        return KeyFileError(
            f"{path}: may not be read by this user; change its owner, or run: "
            f"chmod u+r {shlex.quote(str(path))}"
        )
    reason = getattr(error, "strerror", None) or str(error)  # ValueError: a NUL in the name
    return KeyFileError(f"{path}: cannot be read: {reason}; name another file")


def _make(path: str | Path) -> str:
    """Return the command that makes the file at ``path``."""
    directory, name = Path(path).parent, Path(path).name
    if Path(path).suffix in (".crt", ".key", ".pem") and name not in ("server.crt", "server.key"):
        return "make server.crt and server.key with: gen-cert x509"
    if name in ("auth", "auth.pub"):
        return f"make it with: gen-cert ed25519 --output {shlex.quote(str(directory))}"
    if name in ("server.crt", "server.key"):
        return f"make it with: gen-cert x509 --output {shlex.quote(str(directory))}"
    private = shlex.quote(str(path).removesuffix(".pub"))
    return f"make it with: ssh-keygen -t ed25519 -f {private}"
