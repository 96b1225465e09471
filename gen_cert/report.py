"""Tells the user what was made: for people, or as one JSON object a line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import TextIOWrapper

from rich.console import Console
from rich.text import Text

from common.printable import printable, printable_json


@dataclass(frozen=True, slots=True)
class Report:
    """What a command has done.

    Args:
        headline: what was written.
        next_step: what to do with the files.
        machine: all of it for programs.
        line: one line to stand alone, exactly as it is, such as ``ssh-keygen -l`` prints; or none.
        details: names and values, in order.
    """

    headline: str
    next_step: str
    machine: Mapping[str, object]
    line: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


def show(report: Report, *, level: str, fmt: str) -> None:
    """Print the report on stdout.

    Args:
        report: what to print.
        level: the value of ``--log-level``; above ``info`` nothing is printed.
        fmt: ``text``, or ``json`` for ``report.machine`` alone.
    """
    if level not in ("debug", "info"):
        return
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a comment need not fit the locale
    if fmt == "json":
        import msgspec

        print(printable_json(msgspec.json.encode(report.machine).decode()))  # noqa: T201 - data
        return
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    console.print(Text(printable(report.headline), style="bold green"))
    if report.line:
        console.print(Text(printable(report.line)))
    width = max(map(len, report.details), default=0)
    for name, value in report.details.items():
        console.print(Text.assemble((f"  {name:<{width}}  ", "cyan"), printable(value)))
    console.print(Text(printable(report.next_step), style="dim"))
