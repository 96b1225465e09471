"""Remembers which loopback addresses stand for which clients, for ``reverse-proxy whois``.

The file is rewritten as a whole, at most once in ``SAVE_S`` seconds and at the end, and readable by
its owner only. One that cannot be read is set aside with a warning, never overwritten.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Final

import anyio
import msgspec

from common.errors import SettingError
from common.logs import event
from reverse_proxy.visitor_addresses import MOST, Seen, VisitorAddresses

log = logging.getLogger(__name__)

SAVE_S: Final = 1.0
NAME: Final = "visitors.json"


class _Entry(msgspec.Struct, array_like=True, frozen=True):
    address: str
    client: str
    first: float
    last: float


class _File(msgspec.Struct, frozen=True):
    version: int
    visitors: list[_Entry]


def default_path() -> Path:
    """Return where the file is unless ``--visitors-file`` says otherwise (XDG base directories)."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "tcp-relay" / NAME


def read(path: Path) -> list[tuple[str, Seen]]:
    """Return what the file remembers, the client seen least recently first.

    Raises:
        SettingError: it cannot be read, or is no such file; the message says what to do.
    """
    try:
        data = path.read_bytes()
        found = msgspec.json.decode(data, type=_File)
    except OSError as error:
        raise SettingError(f"cannot read {path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise SettingError(f"{path} is no file of visitors: {error}; move it away") from None
    if found.version != 1:
        raise SettingError(f"{path} is of version {found.version}, this program reads 1")
    return [(each.address, Seen(each.client, each.first, each.last)) for each in found.visitors]


class VisitorsFile:
    """The table and its file.

    Args:
        path: need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._table = VisitorAddresses()
        self._changed = False

    @classmethod
    def open(cls, path: str) -> VisitorsFile:
        """Return the table as the file at ``path`` (empty: the default) remembers it."""
        self = cls(Path(path) if path else default_path())
        if self.path.exists():
            self._load()
        return self

    def stand_in(self, host: str) -> str:
        """Return the address that stands for the client at ``host``; empty if it is no address."""
        try:
            address = self._table.stand_in(host, time.time())
        except ValueError:  # an opener that does not know where its source came from
            return ""
        self._changed = True
        return address

    async def keep(self) -> None:
        """Save what is new, every second, for ever."""
        while True:
            await anyio.sleep(SAVE_S)
            self.save()

    def save(self) -> None:
        """Write the file if anything has changed; a failure is logged and tried again later."""
        if not self._changed:
            return
        entries = [
            _Entry(address, seen.client, seen.first, seen.last)
            for address, seen in self._table.items()
        ]
        new = self.path.with_name(f"{self.path.name}.new")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(msgspec.json.encode(_File(1, entries)))
            new.replace(self.path)
        except OSError as error:
            event(
                log,
                logging.WARNING,
                "cannot remember visitors",
                budget_key="cannot remember visitors",
                file=str(self.path),
                reason=error.strerror,
            )
            return
        self._changed = False

    def _load(self) -> None:
        try:
            found = read(self.path)
        except SettingError as error:
            aside = self.path.with_name(f"{self.path.name}.unreadable")
            event(
                log,
                logging.WARNING,
                "visitors are forgotten",
                reason=str(error),
                kept_as=str(aside),
            )
            self.path.replace(aside)
            return
        for address, seen in found[-MOST:]:
            self._table.restore(address, seen)
