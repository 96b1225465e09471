"""The command line of the benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path

import rich_click as click
from rich.console import Console

from benchmarks import report
from benchmarks.runner import Plan, run
from benchmarks.systems import SYSTEMS
from benchmarks.systems.suite import parse_tree
from benchmarks.workloads import WORKLOADS


def _trees(
    ctx: click.Context,  # noqa: ARG001 - click's callback
    param: click.Parameter,  # noqa: ARG001
    values: tuple[str, ...],
) -> list[tuple[str, Path]]:
    try:
        return [parse_tree(each) for each in values]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option("--rounds", type=click.IntRange(1), help="Times everything is run. [default: 9]")
@click.option("--seconds", type=click.FloatRange(0.2), help="Length of one run. [default: 1]")
@click.option("--quick", is_flag=True, help="Fewer and shorter rounds: about two minutes.")
@click.option(
    "--system",
    "systems",
    multiple=True,
    type=click.Choice(list(SYSTEMS)),
    help="Measure only these; repeat. [default: all that are installed]",
)
@click.option(
    "--workload",
    "workloads",
    multiple=True,
    type=click.Choice(list(WORKLOADS)),
    help="Run only these; repeat. [default: all]",
)
@click.option("--memory/--no-memory", default=True, help="Whether to measure memory too.")
@click.option(
    "--tree",
    "trees",
    multiple=True,
    metavar="LABEL=PATH",
    callback=_trees,
    help="Measure another checkout of this suite in the same rounds; repeat.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write benchmarks.md and benchmarks.json into this directory.",
)
@click.option("--strict", is_flag=True, help="End with status 1 if a target is missed.")
def main(
    rounds: int | None,
    seconds: float | None,
    quick: bool,
    systems: tuple[str, ...],
    workloads: tuple[str, ...],
    memory: bool,
    trees: list[tuple[str, Path]],
    output: Path | None,
    strict: bool,
) -> None:
    """Measure this suite beside its peers on this machine."""
    plan = Plan(
        systems=systems or list(SYSTEMS),
        workloads=workloads or list(WORKLOADS),
        trees=trees,
        rounds=rounds or (3 if quick else 9),
        seconds=seconds or (0.7 if quick else 1.0),
        memory=memory,
    )
    console = Console(width=None if sys.stdout.isatty() else 110)
    results = run(plan, console)
    report.show(results, console)
    if output is not None:
        for path in report.write(results, output):
            console.print(f"written: {path}", markup=False)
    if strict and not report.all_met(results):
        sys.exit(1)
