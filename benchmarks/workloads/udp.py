"""Datagrams of 512 bytes, eight under way to an echo."""

from __future__ import annotations

from typing import Final

from benchmarks.metrics import Figures
from benchmarks.systems.base import System
from benchmarks.workloads.base import run_client

WINDOW: Final = 8


def datagrams(system: System, seconds: float) -> Figures:
    """Return how many came back a second, and the share that did not, in per cent."""
    counted, _ = run_client(system, "datagrams", seconds, WINDOW)
    lost, replied = counted["lost"], counted["replied"]
    return {
        "datagrams": replied / counted["seconds"],
        "datagrams_lost": 100 * lost / (lost + replied),
    }
