"""Remembers which loopback addresses stand for which clients, for ``reverse-proxy whois``.

The file is rewritten as a whole, at most once in ``SAVE_S`` seconds and at the end, and readable by
its owner only. That is done beside the loop, and takes one part in ``SHARE`` of the time at most: a
crowd of new visitors fills the table, and must not stop the streams of others. One that cannot be
read is set aside with a warning, never overwritten.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from common.errors import SettingError
from common.logs import event
from reverse_proxy.visitor_addresses import MOST, Seen, VisitorAddresses

log = logging.getLogger(__name__)

SAVE_S: Final = 1.0
SHARE: Final = 20
SEEN_S: Final = 60.0
"""Seconds by which the file may be late with when a client was last seen."""
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
    """Return where the file is unless ``--visitors-file`` says otherwise.

    The service manager's state directory (systemd.exec(5), StateDirectory=), or the user's (XDG
    base directories), or that of the machine.
    """
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given) / NAME
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    except RuntimeError:  # a user without a home
        state = Path("/var/lib")
    return state / "tcp-relay" / NAME


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
    except (ValueError, RecursionError) as error:  # the decoder's; text that is none is its own
        raise SettingError(f"{path} is no file of visitors: {error}; move it away") from None
    if found.version != 1:
        raise SettingError(f"{path} is of version {found.version}, this program reads 1")
    return [(each.address, Seen(each.client, each.first, each.last)) for each in found.visitors]


class VisitorsFile:
    """The table and its file, which is read when the first address is needed.

    Args:
        path: need not exist yet; empty for the default.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path) if path else default_path()
        self._table = VisitorAddresses()
        self._loaded = False
        self._changed = False
        self._saved_at = 0.0

    def stand_in(self, host: str) -> str:
        """Return the address that stands for the client at ``host``; empty if it is no address."""
        if not self._loaded:
            self._loaded = True
            self._load()
        now = time.time()
        known = self._table.newcomers
        try:
            address = self._table.stand_in(host, now)
        except ValueError:  # an opener that does not know where its source came from
            return ""
        self._changed |= self._table.newcomers != known or now - self._saved_at >= SEEN_S
        return address

    async def keep(self) -> None:
        """Save what is new, every second or so, for ever."""
        pause_s = SAVE_S
        while True:
            await anyio.sleep(pause_s)
            began = anyio.current_time()
            if self._changed:
                self._changed = False
                self._saved(await anyio.to_thread.run_sync(self._write, self._table.items()))
            pause_s = max(SAVE_S, SHARE * (anyio.current_time() - began))

    def save(self) -> None:
        """Write the file now if anything has changed; a failure is logged."""
        if self._changed:
            self._changed = False
            self._saved(self._write(self._table.items()))

    def _saved(self, error: OSError | None) -> None:
        if error is None:
            self._saved_at = time.time()
            return
        self._changed = True  # to be tried again
        event(
            log,
            logging.WARNING,
            "cannot remember visitors",
            budget_key="cannot remember visitors",
            file=str(self.path),
            reason=error.strerror,
        )

    def _write(self, items: list[tuple[str, Seen]]) -> OSError | None:
        """Replace the file; return why it could not be."""
        entries = [_Entry(address, seen.client, seen.first, seen.last) for address, seen in items]
        new = self.path.with_name(f"{self.path.name}.new")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(msgspec.json.encode(_File(1, entries)))
            new.replace(self.path)
        except OSError as error:
            return error
        return None

    def _load(self) -> None:
        try:
            if not self.path.exists():
                return
            found = read(self.path)
        except (SettingError, OSError) as error:
            aside = self.path.with_name(f"{self.path.name}.unreadable")
            event(
                log,
                logging.WARNING,
                "visitors are forgotten",
                reason=str(error),
                kept_as=str(aside),
            )
            with contextlib.suppress(OSError):
                self.path.replace(aside)
            return
        for address, seen in found[-MOST:]:
            self._table.restore(address, seen)
