"""The client: ``python -m benchmarks.load.client`` runs a load for each line that it reads.

A line is ``KIND HOST PORT SECONDS COUNT``; the answer is one line of JSON, the figures or an
``error``. Each load runs in a fork, so none leaves anything behind, and none pays for a start.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

from benchmarks.load.datagrams import datagrams
from benchmarks.load.round_trips import beside_bulk, connect, connect_far, first_byte, pingpong
from benchmarks.load.streams import download, upload
from benchmarks.load.talk import Address, Figures

KINDS: Final[dict[str, Callable[[Address, float, int], Figures]]] = {
    "upload": upload,
    "download": download,
    "pingpong": pingpong,
    "beside_bulk": beside_bulk,
    "first_byte": first_byte,
    "connect": connect,
    "connect_far": connect_far,
    "datagrams": datagrams,
}
"""Each gets the address, the seconds to go on, and how many there are of what it has many of."""


def main() -> None:
    """Serve until the input ends."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _serve(line)
        os.waitpid(child, 0)


def _serve(line: str) -> None:
    """Answer one line, and end this process and all that it has started."""
    os.setpgid(0, 0)
    kind, host, port, seconds, count = line.split()
    try:
        figures = KINDS[kind]((host, int(port)), float(seconds), int(count))
        answer = json.dumps(figures)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is the answer
        answer = json.dumps({"error": f"{type(error).__name__}: {error}"})
    print(answer, flush=True)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
