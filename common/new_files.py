"""Writes new files, all of them or none.

The data goes to temporary files beside their targets, is flushed to the disk, and then takes the
targets' names in one go each (``link`` or ``rename``): nobody ever reads half a file. When one of
several cannot be put in place, those before it are taken back. Only a machine that dies between
two of the renames can leave the first without the second.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import KeyFileError

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to be written.

    Args:
        path: where; missing directories on the way are made.
        data: the whole contents.
        mode: its permissions, whatever the umask says (not on Windows).
    """

    path: Path
    data: bytes = field(repr=False)
    mode: int


def check_free(paths: Sequence[Path], *, force: bool) -> None:
    """Check, before any work, that files may be written at ``paths``.

    Raises:
        KeyFileError: something is there already and ``force`` is not set, or is no file.
    """
    for path in paths:
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise _unwritable(path, error) from None
        if stat.S_ISDIR(mode):
            raise KeyFileError(f"{path}: a directory; remove it, or name another --output")
        if not force:
            raise _taken(path)


def write_new(files: Sequence[NewFile], *, force: bool) -> None:
    """Write all files, or none.

    Args:
        files: at different paths.
        force: replace what is there (a symbolic link itself, not what it points to).

    Raises:
        KeyFileError: a file is there already and ``force`` is not set, or one cannot be written.
    """
    check_free([file.path for file in files], force=force)
    with contextlib.ExitStack() as cleanup, contextlib.ExitStack() as undo:
        staged = [(_stage(file, cleanup), file.path) for file in files]
        for temporary, path in staged:
            with _explained(path):
                _place(temporary, path, undo, cleanup, force=force)
        undo.pop_all()  # all are in place
    for directory in {file.path.parent for file in files}:
        _flush_directory(directory)


def _stage(file: NewFile, cleanup: contextlib.ExitStack) -> Path:
    """Write the data to a temporary file beside the target and return its path."""
    temporary = _beside(file.path)
    with _explained(file.path):
        file.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(temporary, flags, PRIVATE_MODE)
        cleanup.callback(temporary.unlink, missing_ok=True)
        with os.fdopen(descriptor, "wb") as out:
            out.write(file.data)
            out.flush()
            os.fsync(descriptor)
        os.chmod(temporary, file.mode)
    return temporary


def _place(
    temporary: Path,
    path: Path,
    undo: contextlib.ExitStack,
    cleanup: contextlib.ExitStack,
    *,
    force: bool,
) -> None:
    """Give the temporary file the name ``path``."""
    if force and os.path.lexists(path):
        backup = _beside(path)
        try:
            os.link(path, backup)
            cleanup.callback(backup.unlink, missing_ok=True)
        except OSError:  # no hard links here; the name is free for a moment
            os.rename(path, backup)
            cleanup.callback(backup.unlink, missing_ok=True)
            undo.callback(os.replace, backup, path)
            os.replace(temporary, path)
            return
        os.replace(temporary, path)
        undo.callback(os.replace, backup, path)
        return
    try:
        os.link(temporary, path)  # unlike rename, it refuses to replace a file
    except FileExistsError:
        raise _taken(path) from None
    except OSError:  # no hard links here
        check_free([path], force=False)
        os.rename(temporary, path)
    undo.callback(path.unlink, missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _unwritable(path, error) from None


def _flush_directory(directory: Path) -> None:
    """Make new names last over a power cut, where directories can be flushed (not on Windows)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _taken(path: Path) -> KeyFileError:
    return KeyFileError(
        f"{path}: already exists and nothing was written; replace it with --force, or name "
        "another directory with --output"
    )


def _unwritable(path: Path, error: OSError | ValueError) -> KeyFileError:
    reason = getattr(error, "strerror", None) or str(error)
    return KeyFileError(
        f"{path}: cannot be written: {reason}; name a directory that can be written with --output"
    )
