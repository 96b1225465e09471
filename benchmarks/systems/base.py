"""What every system has in common: a name, an address, and processes that can be measured."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.processes import Process

ROOT = Path(__file__).resolve().parents[2]
"""The tree whose programs are measured."""

Address = tuple[str, int]

TCP: Final = frozenset({"plain", "web", "far", "crowd"})
"""The variants of whatever carries a TCP connection."""
UDP: Final = frozenset({"udp"})
HTTP: Final = frozenset({"web"})


@dataclass(frozen=True)
class Place:
    """Where systems are started, and what for.

    Args:
        directory: for configuration and logs; removed in the end.
        variant: ``plain``; ``web``, before an HTTP server; ``far``, on long ways; ``crowd``, with
            thousands of connections; ``udp``, before a destination of datagrams.
        destination: host and port that every system forwards to.
        delay_s: how long each way between two machines takes, in seconds.
        crowd: numbers of connections that it must be able to hold, ascending.
    """

    directory: Path
    variant: str
    destination: Address
    delay_s: float = 0.0
    crowd: tuple[int, ...] = ()

    @property
    def certificate(self) -> Path:
        """The certificate (ECDSA P-256, self-signed) that every TLS server here shows."""
        return self.directory / "cert" / "server.crt"

    @property
    def key(self) -> Path:
        """Its private key."""
        return self.directory / "cert" / "server.key"

    @property
    def datagrams(self) -> bool:
        """Whether the destination speaks UDP."""
        return self.variant in UDP

    def room(self, name: str) -> Path:
        """Return a directory of its own for a system."""
        path = self.directory / self.variant / name
        path.mkdir(parents=True, exist_ok=True)
        return path


class System:
    """A way from a client to the destination; whoever makes one starts and closes it."""

    name = ""
    title = ""
    security = ""
    """What a machine in the middle can read: shown beside the figures."""
    variants = TCP
    """What it can be started for."""
    http_host = "localhost"
    """The Host that HTTP requests name."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.address: Address = ("127.0.0.1", 0)
        """Where clients connect to."""
        self.doors: list[Address] = []
        """Where a crowd connects to in turn, if one port does not admit all of it."""
        self.processes: list[Process] = []
        self.relay: Process | None = None
        """The one that stands on the public host."""
        self._ways: list[Process] = []

    def start(self) -> None:
        """Start its programs and wait until they serve.

        Raises:
            UnavailableError: it cannot run here; :meth:`close` ends what has been started.
        """
        raise NotImplementedError

    def run(
        self,
        name: str,
        argv: Sequence[str | Path],
        directory: Path,
        env: dict[str, str] | None = None,
    ) -> Process:
        """Start a program of this system; it ends with it."""
        process = Process(name, argv, directory, env)
        self.processes.append(process)
        return process

    def between(self, far: Address, listen: Address = ("127.0.0.1", 0)) -> Address:
        """Return where to reach ``far`` from another machine: behind a long way, or itself."""
        if not self.place.delay_s:
            return far
        arguments = [*far, self.place.delay_s, *listen]
        way = Process(
            "delay",
            [*python_module("benchmarks.load.delay"), *map(str, arguments)],
            self.place.room(f"{self.name}-way-{len(self._ways)}"),
            {"PYTHONPATH": str(ROOT)},
        )
        self._ways.append(way)
        return to_address(way.wait_ready())

    def open_to_visitors(self, port: int) -> None:
        """Let clients come to a port of the public host, where they are as far as anybody."""
        self.address = self.between(("127.0.0.1", port))

    def close(self) -> None:
        """End what is left of its programs."""
        for each in (*self.processes, *self._ways):
            each.close()


def python_module(name: str) -> list[str]:
    """Return the command that runs a module of this tree."""
    return [sys.executable, "-m", name]


def to_address(text: str) -> Address:
    """Return host and port of ``host:port``."""
    host, _, port = text.rpartition(":")
    return host, int(port)
