"""Resident memory, of idle programs and of a relay with many idle pairs."""

from __future__ import annotations

import time

from benchmarks.metrics import Figures
from benchmarks.systems.base import System
from benchmarks.systems.suite import Suite

PAIRS = 2000
SETTLE_S = 1.0
MIB = 1024


def idle(system: System) -> Figures:
    """Return the memory of a system that has just been started, in MiB."""
    time.sleep(SETTLE_S)
    figures = {}
    if system.processes:
        figures["resident"] = max(each.resident_kib() for each in system.processes) / MIB
    if system.relay:
        figures["relay_resident"] = system.relay.resident_kib() / MIB
    return figures


def crowded(like: Suite) -> Figures:
    """Return the memory of a relay like that of ``like`` while it joins 2,000 idle pairs, in MiB.

    The entry-point keeps 2,000 channels ready; the reverse-proxy follows it by itself.
    """
    suite = like.again(channels=PAIRS)
    try:
        suite.start()
        time.sleep(SETTLE_S)
        assert suite.relay
        return {"relay_resident_2000": suite.relay.resident_kib() / MIB}
    finally:
        suite.close()
