"""What is compared: each module starts one kind of system."""

from __future__ import annotations

from typing import Final

from benchmarks.systems.base import System
from benchmarks.systems.bore import Bore
from benchmarks.systems.chisel import Chisel
from benchmarks.systems.direct import Direct
from benchmarks.systems.exposed import Exposed, ExposedRaw, Named
from benchmarks.systems.frp import Frp, FrpWithoutMux
from benchmarks.systems.haproxy import (
    HaproxyHttp,
    HaproxySplice,
    HaproxySpliceTwice,
    HaproxyTls,
)
from benchmarks.systems.rathole import RatholeNoise, RatholeTls
from benchmarks.systems.ssh import SshLocal, SshReverse
from benchmarks.systems.stunnel import Stunnel
from benchmarks.systems.suite import Suite

SYSTEMS: Final[dict[str, type[System]]] = {
    each.name: each
    for each in (
        Direct,
        HaproxySplice,
        HaproxySpliceTwice,
        HaproxyTls,
        Stunnel,
        SshLocal,
        SshReverse,
        Frp,
        FrpWithoutMux,
        RatholeTls,
        RatholeNoise,
        Chisel,
        Bore,
        Suite,
        Exposed,
        ExposedRaw,
        HaproxyHttp,
        Named,
    )
}
"""By name, in the order of the tables."""
