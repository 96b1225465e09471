"""What is compared: each module starts one kind of system."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from benchmarks.systems.base import Place, System
from benchmarks.systems.direct import Direct
from benchmarks.systems.exposed import Exposed, ExposedRaw, Named
from benchmarks.systems.haproxy import (
    HaproxyHttp,
    HaproxySplice,
    HaproxySpliceTwice,
    HaproxyTls,
)
from benchmarks.systems.ssh import SshReverse
from benchmarks.systems.stunnel import Stunnel
from benchmarks.systems.suite import Suite

SYSTEMS: Final[dict[str, Callable[[Place], System]]] = {
    each.name: each
    for each in (
        Direct,
        HaproxySplice,
        HaproxySpliceTwice,
        HaproxyTls,
        Stunnel,
        SshReverse,
        Suite,
        Exposed,
        ExposedRaw,
        HaproxyHttp,
        Named,
    )
}
"""By name, in the order of the tables."""
