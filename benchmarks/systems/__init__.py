"""What is compared: each module starts one kind of system."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from benchmarks.systems.base import Place, System
from benchmarks.systems.direct import Direct
from benchmarks.systems.haproxy import HaproxySplice, HaproxyTls
from benchmarks.systems.stunnel import Stunnel
from benchmarks.systems.suite import Suite

SYSTEMS: Final[dict[str, Callable[[Place], System]]] = {
    each.name: each for each in (Direct, HaproxySplice, HaproxyTls, Stunnel, Suite)
}
"""By name, in the order of the tables."""
