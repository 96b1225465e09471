"""HTTP requests on 64 kept connections, by wrk."""

from __future__ import annotations

import math
import re
import subprocess

from benchmarks.metrics import Figures
from benchmarks.processes import UnavailableError, find_program
from benchmarks.systems.base import System
from benchmarks.workloads.base import RunError

CONNECTIONS = 64


def http(system: System, seconds: float) -> Figures:
    """Return requests per second, and the CPU time of all programs for 1,000 of them."""
    try:
        wrk = find_program("wrk")
    except UnavailableError as error:
        raise RunError(f"http through {system.name}: {error}") from None
    host, port = system.address
    before = sum(each.cpu_s() for each in system.processes)
    done = subprocess.run(
        [
            *(wrk, "-t1", f"-c{CONNECTIONS}", f"-d{math.ceil(seconds)}"),
            *("-H", f"Host: {system.http_host}", f"http://{host}:{port}/"),
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    used = sum(each.cpu_s() for each in system.processes) - before
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", done.stdout)
    total = re.search(r"(\d+) requests in", done.stdout)
    if rate is None or total is None or "Non-2xx" in done.stdout or "Socket err" in done.stdout:
        raise RunError(f"http through {system.name}: {(done.stdout + done.stderr)[-300:]}")
    return {
        "requests": float(rate[1]),
        "cpu_per_1000_requests": 1000 * used / max(int(total[1]), 1),
    }
