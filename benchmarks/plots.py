"""Results as plots: small multiples of ratios, and of times and memory; SVG and PNG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.metrics import METRICS
from benchmarks.results import Results, Summary, baseline_of

RATIOS: Final = (
    *("upload", "download", "upload_8", "download_8"),
    *("cpu_per_gb", "relay_cpu_per_gb", "connections", "cpu_per_10000"),
    *("p50", "p99", "loaded_p50", "loaded_p99"),
    *("first_byte_p50", "far_first_byte_p50", "requests", "datagrams"),
)
FIGURES: Final = (
    *("p50", "p999", "first_byte_p50", "far_first_byte_p50"),
    *("memory_1000", "relay_memory_1000", "memory_5000", "relay_memory_5000"),
)
COLUMNS: Final = 4
OURS: Final = frozenset({"suite", "exposed", "exposed-raw", "named"})
OUR_COLOUR: Final = "#c2410c"
THEIR_COLOUR: Final = "#64748b"

Ask = Callable[[str, str], Summary | None]


def draw(results: Results, directory: Path) -> list[Path]:
    """Draw what was measured; return the paths of the files."""

    def ratio(key: str, name: str) -> Summary | None:
        return results.ratio(key, name, baseline_of(key))

    drawn = []
    for stem, keys, ask, relative in (
        ("ratios", RATIOS, ratio, True),
        ("figures", FIGURES, results.summary, False),
    ):
        measured = [each for each in keys if each in results.metrics()]
        if measured:
            figure = _figure(results, measured, ask, relative)
            drawn += _save(figure, directory / f"benchmarks-{stem}")
    return drawn


def _figure(results: Results, keys: Sequence[str], ask: Ask, relative: bool) -> Figure:
    rows = -(-len(keys) // COLUMNS)
    names = [each for each in results.titles if any(ask(key, each) for key in keys)]
    height = 0.9 + 0.23 * len(names)
    figure = Figure(figsize=(4.0 * COLUMNS, height * rows), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False)
    for number, each in enumerate(axes.flat):
        if number < len(keys):
            _panel(each, keys[number], names, ask, relative)
            if number % COLUMNS:
                each.set_yticklabels([])
        else:
            each.set_axis_off()
    return figure


def _panel(axes: Axes, key: str, names: Sequence[str], ask: Ask, relative: bool) -> None:
    metric = METRICS[key]
    low, high = (1.0, 1.0) if relative else (inf, 0.0)
    for number, name in enumerate(names):
        summary = ask(key, name)
        if summary is None or summary.median <= 0:
            continue
        colour = OUR_COLOUR if name in OURS else THEIR_COLOUR
        axes.plot([summary.low, summary.high], [number, number], color=colour, linewidth=1.5)
        axes.plot(summary.median, number, "o", color=colour, markersize=6)
        text = f"{summary.median:.2f}" if relative else f"{summary.median:.{metric.digits}f}"
        axes.annotate(
            text,
            (max(summary.high, summary.median), number),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=colour,
        )
        low, high = min(low, summary.low), max(high, summary.high)
    axes.set_xscale("log")
    if relative:
        axes.axvline(1, color="#94a3b8", linewidth=1, linestyle="--", zorder=0)
    axes.set_xlim(low / 1.4, high * 2.2)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        if name in OURS:
            label.set_color(OUR_COLOUR)
            label.set_fontweight("bold")
    steps = (1, 2, 5) if high / low < 60 else (1,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(axis="x", color="#e2e8f0", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    better = "right is better" if metric.higher_is_better else "left is better"
    unit = f"ratio to {baseline_of(key)}" if relative else metric.unit
    axes.set_title(f"{metric.brief or metric.title}\n{unit}, {better}", fontsize=8.5, loc="left")


def _save(figure: Figure, base: Path) -> list[Path]:
    paths = [base.with_suffix(".svg"), base.with_suffix(".png")]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "benchmarks"}):
        for each in paths:
            figure.savefig(each, dpi=130)
    return paths
