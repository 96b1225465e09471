"""``reverse-proxy whois``: tells for which clients loopback addresses stand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from common.errors import SettingError
from common.printable import printable
from reverse_proxy.visitors_file import default_path, read


def whois(path: str, addresses: Sequence[str], console: Console) -> None:
    """Print who stands behind ``addresses``; behind all that are remembered, if there are none.

    Args:
        path: the file of visitors; empty for the default.

    Raises:
        SettingError: the file cannot be read, or an address stands for nobody.
    """
    file = Path(path) if path else default_path()
    found = dict(read(file))
    unknown = [each for each in addresses if each not in found]
    if unknown:
        raise SettingError(
            f"{printable(unknown[0])} stands for nobody in {file};"
            " see all with: reverse-proxy whois"
        )
    table = Table("address", "client", "first seen (UTC)", "last seen (UTC)", box=None)
    for address in addresses or found:
        seen = found[address]
        table.add_row(address, printable(seen.client), _time(seen.first), _time(seen.last))
    console.print(table)


def _time(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return "?"
