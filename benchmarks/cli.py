"""The command line of the benchmarks."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import rich_click as click
from rich.console import Console

from benchmarks import report
from benchmarks.metrics import STREAMS
from benchmarks.runner import Plan, run
from benchmarks.systems import SYSTEMS
from benchmarks.systems.suite import parse_tree
from benchmarks.workloads import WORKLOADS


@dataclass(frozen=True)
class Size:
    """What is run unless the command line says otherwise."""

    systems: list[str]
    workloads: list[str]
    rounds: int
    seconds: float
    total_s: float | None
    crowd: tuple[int, ...]
    crowded: list[str]


FULL: Final = Size([*SYSTEMS], [*WORKLOADS], 5, 1.0, None, STREAMS, [*SYSTEMS])
QUICK: Final = Size(
    [each for each in SYSTEMS if each not in ("haproxy-tcp-2", "exposed-raw")],
    [each for each in WORKLOADS if each not in ("bulk-8", "http-1", "http-256")],
    rounds=3,
    seconds=0.7,
    total_s=140,
    crowd=(0, 1000),
    crowded=["haproxy-tls", "suite", "exposed", "frp", "rathole-tls"],
)
"""Ends within three minutes, all peers installed; the full size takes more than half an hour."""


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
@click.option("--rounds", type=click.IntRange(1), help="Times everything is run. [default: 5]")
@click.option("--seconds", type=click.FloatRange(0.2), help="Length of one run. [default: 1]")
@click.option("--quick", is_flag=True, help="Fewer and shorter runs: within three minutes.")
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
    "--peers-dir",
    envvar="PEERS_DIR",
    type=click.Path(path_type=Path, file_okay=False, exists=True, resolve_path=True),
    help="Where peers are that are not on the PATH. [env: PEERS_DIR]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write benchmarks.md, benchmarks.json and plots into this directory.",
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
    peers_dir: Path | None,
    output: Path | None,
    strict: bool,
) -> None:
    """Measure this suite beside its peers on this machine."""
    if peers_dir:
        os.environ["PEERS_DIR"] = str(peers_dir)
    size = QUICK if quick else FULL
    chosen = [*(workloads or size.workloads)]
    plan = Plan(
        systems=systems or size.systems,
        workloads=[each for each in chosen if memory or each != "memory"],
        trees=trees,
        rounds=rounds or size.rounds,
        seconds=seconds or size.seconds,
        total_s=size.total_s,
        crowd=size.crowd,
        crowded=systems or size.crowded,
    )
    console = Console(width=None if sys.stdout.isatty() else 110)
    results = run(plan, console)
    report.show(results, console)
    if output is not None:
        for path in report.write(results, output, console):
            console.print(f"written: {path}", markup=False)
    if strict and not report.all_met(results):
        sys.exit(1)
