"""HTTP requests on kept connections, made by wrk and counted by the server.

wrk counts from its start on, and so its connections' handshakes; the server's counter is read when
all of them are there.
"""

from __future__ import annotations

import http.client
import re
import subprocess
import time
from collections.abc import Callable
from typing import Final

from benchmarks.metrics import Figures
from benchmarks.processes import find_program
from benchmarks.systems.base import Address, System
from benchmarks.workloads.base import RunError, cpu_figures, cpu_of

FOREVER: Final = "1h"
"""How long wrk is told to go on; it is ended."""
GROWTH_S: Final = 1.5
"""Seconds after which counting begins even if fewer connections have come through."""
SETTLE_S: Final = 0.2
"""Seconds after that which are not counted: pools fill up again."""
TURN_S: Final = 0.05


def http_requests(connections: int, name: str) -> Callable[[System, float], Figures]:
    """Return what measures requests per second, as metric ``name``, and their CPU time."""

    def measure(system: System, seconds: float) -> Figures:
        host, port = system.address
        command = [find_program("wrk"), "-t1", f"-c{connections}", f"-d{FOREVER}"]
        command += ["-H", f"Host: {system.http_host}", f"http://{host}:{port}/"]
        kept = _wait_calm(system.place.destination)
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                _wait_connected(system.place.destination, kept + connections)
                time.sleep(SETTLE_S)
                before = cpu_of(system)
                first, began = _requests(system.place.destination), time.perf_counter()
                time.sleep(seconds)
                last, ended = _requests(system.place.destination), time.perf_counter()
                used = {each: now - before[each] for each, now in cpu_of(system).items()}
                if process.poll() is not None:
                    raise RunError(f"wrk: {process.communicate()[1][-300:]}")
            finally:
                process.kill()
        count = last - first - 1  # reading the counter is a request too
        if count <= 0:
            raise RunError(f"no request on {connections} connections within {seconds:g} s")
        rate = count / (ended - began)
        return {name: rate, **cpu_figures(system, f"cpu_of_{name}", used, count / 1000)}

    return measure


def _wait_calm(server: Address) -> int:
    """Return how many connections the server has once those of the run before are closed."""
    until = time.monotonic() + GROWTH_S
    before, now = -1, _connections(server)
    while now != before and time.monotonic() < until:
        time.sleep(TURN_S)
        before, now = now, _connections(server)
    return now


def _wait_connected(server: Address, connections: int) -> None:
    """Wait until the server has so many connections; some systems share theirs and never do."""
    until = time.monotonic() + GROWTH_S
    while _connections(server) < connections and time.monotonic() < until:
        time.sleep(TURN_S)


def _connections(server: Address) -> int:
    return _status(server, r"Active connections: (\d+)")


def _requests(server: Address) -> int:
    return _status(server, r"\n \d+ \d+ (\d+)")


def _status(server: Address, pattern: str) -> int:
    """Return a figure of nginx's ``stub_status``."""
    connection = http.client.HTTPConnection(*server, timeout=10)
    try:
        connection.request("GET", "/status")
        found = re.search(pattern, connection.getresponse().read().decode())
    except (OSError, http.client.HTTPException) as error:
        raise RunError(f"the HTTP server does not answer: {error!r}") from None
    finally:
        connection.close()
    if found is None:
        raise RunError("the HTTP server was built without stub_status")
    return int(found[1])
