"""Every system that is installed carries real bytes, wherever it can be started, and ends whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.grounds import Grounds
from benchmarks.probe import wait_serving
from benchmarks.processes import UnavailableError, family
from benchmarks.systems import SYSTEMS

OURS = ("direct", "suite", "exposed", "exposed-raw", "named")
CASES = [
    pytest.param(name, variant, id=f"{name}-{variant}", marks=[] if quick else pytest.mark.slow)
    for name, system in SYSTEMS.items()
    for variant in sorted(system.variants)
    for quick in [name in OURS and variant in ("far", "udp")]
]


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grounds]:
    with ExitStack() as stack:
        yield Grounds(tmp_path_factory.mktemp("grounds"), stack, crowd=(0, 10))


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_bytes_come_back(grounds: Grounds, name: str, variant: str) -> None:
    try:
        system = SYSTEMS[name](grounds.place(variant))
    except UnavailableError as error:
        pytest.skip(str(error))
    try:
        system.start()
        wait_serving(system)
        pids = [pid for process in system.processes for pid in family(process.pid)]
        assert all(process.cpu_s() > 0 for process in system.processes)
    except UnavailableError as error:
        if "is not installed" in str(error):
            pytest.skip(str(error))
        raise
    finally:
        system.close()
    assert not [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()]
