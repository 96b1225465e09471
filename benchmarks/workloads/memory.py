"""Resident memory with more and more idle streams."""

from __future__ import annotations

import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from benchmarks.metrics import Figures
from benchmarks.processes import UnavailableError
from benchmarks.systems.base import ROOT, System, python_module
from benchmarks.workloads.base import RunError

SETTLE_S: Final = 0.5
STREAMS_PER_S: Final = 50
"""Streams that are opened a second, at the very least."""
MIB: Final = 1024


def memory(system: System, seconds: float) -> Figures:  # noqa: ARG001
    """Return MiB of all programs, and of the relay, at each number of streams of the place.

    Raises:
        PartlyError: it does not reach one of them; the figures before are kept.
    """
    figures: dict[str, float] = {}
    with _crowd(system) as crowd:
        for count in system.place.crowd:
            try:
                _open(crowd, count)
            except RunError as error:
                raise PartlyError(figures, f"{count} idle streams: {error}") from None
            time.sleep(SETTLE_S)
            try:
                sizes = {each: each.resident_kib() / MIB for each in system.processes}
            except UnavailableError as error:
                raise PartlyError(figures, f"{count} idle streams: {error}") from None
            if sizes:
                figures[f"memory_{count}"] = sum(sizes.values())
            if system.relay:
                figures[f"relay_memory_{count}"] = sizes[system.relay]
            if sizes and not count:
                figures["resident"] = max(sizes.values())
    return figures


class PartlyError(RunError):
    """A run has failed after it has given some figures."""

    def __init__(self, figures: Figures, message: str) -> None:
        super().__init__(message)
        self.figures = figures


@contextmanager
def _crowd(system: System) -> Iterator[subprocess.Popen[str]]:
    doors = [str(part) for door in system.doors or [system.address] for part in door]
    process = subprocess.Popen(
        [*python_module("benchmarks.load.crowd"), *doors],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _open(crowd: subprocess.Popen[str], count: int) -> None:
    """Wait until so many streams are open."""
    assert crowd.stdin
    assert crowd.stdout
    assert crowd.stderr
    crowd.stdin.write(f"{count}\n")
    ready, _, _ = select.select([crowd.stdout], [], [], 30 + count / STREAMS_PER_S)
    if not ready:
        raise RunError("they do not open")
    if crowd.stdout.readline() != f"open {count}\n":
        raise RunError(crowd.stderr.read().strip()[-300:])
