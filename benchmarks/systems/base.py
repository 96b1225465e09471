"""What every system has in common: a name, an address, and processes that can be measured."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Process

ROOT = Path(__file__).resolve().parents[2]
"""The tree whose programs are measured."""


@dataclass(frozen=True)
class Place:
    """Where systems are started.

    Args:
        directory: for configuration and logs; removed in the end.
        destination: host and port that every system forwards to.
        web: host and port of an HTTP server, for systems that speak HTTP; or none.
    """

    directory: Path
    destination: tuple[str, int]
    web: tuple[str, int] | None = None

    @property
    def certificate(self) -> Path:
        """The certificate (ECDSA P-256, self-signed) that every TLS server here shows."""
        return self.directory / "cert" / "server.crt"

    @property
    def key(self) -> Path:
        """Its private key."""
        return self.directory / "cert" / "server.key"

    def room(self, name: str) -> Path:
        """Return a directory of its own for a system."""
        path = self.directory / name
        path.mkdir(parents=True, exist_ok=True)
        return path


class System:
    """A way from a client to the destination; whoever makes one starts and closes it."""

    name = ""
    title = ""
    security = ""
    """What a machine in the middle can read: shown beside the figures."""
    workloads: frozenset[str] = frozenset({"bulk", "pingpong", "connections"})
    """What can be measured on it."""
    http_host = ""
    """The Host that HTTP requests name."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.address = ("127.0.0.1", 0)
        """Where clients connect to."""
        self.processes: list[Process] = []
        self.relay: Process | None = None
        """The one in the middle that carries bytes it does not encrypt."""

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

    def close(self) -> None:
        """End what is left of its programs."""
        for each in self.processes:
            each.close()


def python_module(name: str) -> list[str]:
    """Return the command that runs a module of this tree."""
    return [sys.executable, "-m", name]
