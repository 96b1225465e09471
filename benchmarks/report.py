"""Results as tables for people, Markdown for documents and JSON for machines."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.metrics import METRICS
from benchmarks.results import BASELINE, Results, Summary, baseline_of
from benchmarks.targets import TARGETS

NOTE: Final = (
    "Everything, the load too, shares the machine's {cores} cores, so only ratios between the "
    "systems mean anything. Figures are medians over rounds [middle half]; ratios are to "
    "{baseline}, paired by round (datagrams: to no proxy). On the far path a way between two "
    "machines takes 25 ms: between a client program and the relay, and between a visitor and the "
    "public host; TCP's handshake takes its round trip there."
)
OVERVIEW: Final = (
    (
        "Throughput, CPU and connections",
        "upload download upload_8 download_8 cpu_per_gb relay_cpu_per_gb connections cpu_per_10000",
    ),
    (
        "Latency and requests",
        "p50 p99 p999 loaded_p50 loaded_p99 loaded_bulk first_byte_p50 first_byte_p99 "
        "far_connections far_first_byte_p50 requests_1 requests requests_256 datagrams",
    ),
)
"""What stands side by side, ratios only."""
PER_PROGRAM: Final = ("cpu_per_gb", "cpu_per_10000")


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
    """Return the ratios side by side, a table for each metric, CPU by program, and the targets."""
    side_by_side = [_overview(results, title, keys.split()) for title, keys in OVERVIEW]
    metrics = [_metric_sheet(results, each) for each in results.metrics()]
    made = [*side_by_side, *metrics, _program_sheet(results), _target_sheet(results)]
    return [each for each in made if each.rows]


def all_met(results: Results) -> bool:
    """Whether every target was measured and is met."""
    measured = [(each, each.measured(results)) for each in TARGETS]
    return all(found is not None and target.met(found[0]) for target, found in measured)


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


def write(results: Results, directory: Path, console: Console) -> list[Path]:
    """Write ``benchmarks.md``, ``benchmarks.json`` and the plots; return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    plots = _plots(results, directory, console)
    machine = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    security = Sheet(
        "Systems",
        ["system", "what it is", "who can read; who is known"],
        [[name, title, results.security[name]] for name, title in results.titles.items()],
    )
    parts = [
        "# Benchmarks\n",
        f"{machine}. {note()}\n",
        *(f"![{each.stem}]({each.name})\n" for each in plots if each.suffix == ".svg"),
        *(sheet.markdown() for sheet in (security, *sheets(results))),
        *(f"Skipped: {line}\n" for line in results.skipped),
    ]
    markdown, data = directory / "benchmarks.md", directory / "benchmarks.json"
    markdown.write_text("\n".join(parts))
    document = {"machine": machine, "cores": os.cpu_count(), **asdict(results)}
    data.write_text(json.dumps(document, indent=1) + "\n")
    return [markdown, data, *plots]


def _plots(results: Results, directory: Path, console: Console) -> list[Path]:
    try:
        from benchmarks import plots
    except ModuleNotFoundError as error:
        text = f"no plots: {error.name} is not installed; `pip install '.[bench]'` gets it"
        console.print(text, markup=False)
        return []
    return plots.draw(results, directory)


def _overview(results: Results, title: str, keys: list[str]) -> Sheet:
    measured = [each for each in keys if each in results.metrics()]
    rows = []
    for name in results.titles:
        ratios = [results.ratio(each, name, baseline_of(each)) for each in measured]
        if any(ratios):
            rows.append([name, *(f"{each.median:.2f}" if each else "" for each in ratios)])
    head = ["system", *(_arrow(each) for each in measured)]
    return Sheet(f"{title}: ratios to {BASELINE}", head, rows)


def _arrow(key: str) -> str:
    """Return a brief name that says which way is better."""
    return f"{METRICS[key].brief} {'↑' if METRICS[key].higher_is_better else '↓'}"


def _metric_sheet(results: Results, key: str) -> Sheet:
    metric = METRICS[key]
    better = "more is better" if metric.higher_is_better else "less is better"
    rows = []
    for name, title in results.titles.items():
        summary = results.summary(key, name)
        if summary is not None:
            ratio = results.ratio(key, name, baseline_of(key))
            rows.append(
                [
                    title,
                    _security(results, name),
                    _spread(summary, metric.digits),
                    _spread(ratio, 2) if ratio else "",
                ]
            )
    return Sheet(
        f"{metric.title} ({better})", ["system", "who can read", metric.unit, "ratio"], rows
    )


def _security(results: Results, name: str) -> str:
    return results.security[name].partition(";")[0]


def _program_sheet(results: Results) -> Sheet:
    rows = []
    for name, title in results.titles.items():
        columns = [results.programs(each, name) for each in PER_PROGRAM]
        for program in dict.fromkeys(each for column in columns for each in column):
            cells = [
                _spread(column[program], METRICS[key].digits) if program in column else ""
                for key, column in zip(PER_PROGRAM, columns, strict=True)
            ]
            rows.append([title, program, *cells])
    head = ["system", "program", "CPU, s/GB", "CPU, s for 10,000 connections"]
    return Sheet("CPU by program", head, rows)


def _target_sheet(results: Results) -> Sheet:
    rows = []
    for target in TARGETS:
        found = target.measured(results)
        if found is None:
            rows.append([target.text, target.limit, "not measured", "", ""])
        else:
            summary, to = found
            met = "met" if target.met(summary) else "MISSED"
            rows.append([target.text, target.limit, _spread(summary, 2), to, met])
    return Sheet("Targets", ["target", "bound", "measured", "best peer", ""], rows)


def _spread(summary: Summary, digits: int) -> str:
    median = f"{summary.median:.{digits}f}"
    if summary.low == summary.high:
        return median
    return f"{median} [{summary.low:.{digits}f} .. {summary.high:.{digits}f}]"
