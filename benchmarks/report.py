"""Results as tables for people, Markdown for documents and JSON for machines."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.metrics import METRICS
from benchmarks.results import BASELINE, Results, Summary
from benchmarks.targets import TARGETS

NOTE = (
    "Everything, the load too, shares the machine's {cores} cores, so only ratios between the "
    "systems mean anything. Figures are medians over rounds [middle half]; ratios are to "
    "{baseline}, paired by round."
)


@dataclass
class Sheet:
    """A table before it is drawn: a title, a head, and rows of text."""

    title: str
    head: list[str]
    rows: list[list[str]]

    def rich(self) -> Table:
        """Return it for a terminal."""
        table = Table()
        for number, name in enumerate(self.head):
            table.add_column(name, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*(escape(cell) for cell in row))
        return table

    def markdown(self) -> str:
        """Return it for a document."""
        rule = ["---", *["---:"] * (len(self.head) - 1)]
        lines = ["| " + " | ".join(row) + " |" for row in (self.head, rule, *self.rows)]
        return f"### {self.title}\n\n" + "\n".join(lines) + "\n"


def sheets(results: Results) -> list[Sheet]:
    """Return one table for each metric, and that of the targets."""
    made = [_metric_sheet(results, each) for each in results.metrics()]
    rows = []
    for target in TARGETS:
        measured = target.measured(results)
        if measured is None:
            rows.append([target.text, target.limit, "not measured", ""])
        else:
            met = "met" if target.met(measured) else "MISSED"
            rows.append([target.text, target.limit, _spread(measured, 2), met])
    return [*made, Sheet("Targets", ["target", "bound", "measured", ""], rows)]


def all_met(results: Results) -> bool:
    """Whether every target was measured and is met."""
    measured = [(each, each.measured(results)) for each in TARGETS]
    return all(value is not None and target.met(value) for target, value in measured)


def note() -> str:
    """Return how the figures are to be read."""
    return NOTE.format(cores=os.cpu_count(), baseline=BASELINE)


def show(results: Results, console: Console) -> None:
    """Print the tables."""
    for sheet in sheets(results):
        console.print(sheet.title, style="bold", markup=False)
        console.print(sheet.rich())
        console.print()
    for line in results.skipped:
        console.print(f"skipped: {line}", markup=False)
    console.print(note(), markup=False)


def write(results: Results, directory: Path) -> list[Path]:
    """Write ``benchmarks.md`` and ``benchmarks.json``; return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    security = Sheet(
        "Systems",
        ["system", "what it is", "security"],
        [[name, title, results.security[name]] for name, title in results.titles.items()],
    )
    parts = [
        "# Benchmarks\n",
        f"{machine}. {note()}\n",
        *(sheet.markdown() for sheet in (security, *sheets(results))),
        *(f"Skipped: {line}\n" for line in results.skipped),
    ]
    markdown, data = directory / "benchmarks.md", directory / "benchmarks.json"
    markdown.write_text("\n".join(parts))
    document = {"machine": machine, "cores": os.cpu_count(), **asdict(results)}
    data.write_text(json.dumps(document, indent=1) + "\n")
    return [markdown, data]


def _metric_sheet(results: Results, key: str) -> Sheet:
    metric = METRICS[key]
    better = "more is better" if metric.higher_is_better else "less is better"
    rows = []
    for name, title in results.titles.items():
        summary = results.summary(key, name)
        if summary is not None:
            ratio = results.ratio(key, name, BASELINE)
            rows.append(
                [title, _spread(summary, metric.digits), _spread(ratio, 2) if ratio else ""]
            )
    return Sheet(f"{metric.title} ({better})", ["system", metric.unit, "ratio"], rows)


def _spread(summary: Summary, digits: int) -> str:
    median = f"{summary.median:.{digits}f}"
    if summary.low == summary.high:
        return median
    return f"{median} [{summary.low:.{digits}f} .. {summary.high:.{digits}f}]"
