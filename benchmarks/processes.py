"""Processes that are measured: started with their output in files, watched through /proc."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_RESIDENT: Final = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)

DEADLINE_S = 30.0
"""Seconds for a program to be ready, and to end."""


class UnavailableError(Exception):
    """A system cannot be measured here; the message says why."""


class Process:
    """One running program and whatever it forks; a log on disk costs it what a log costs."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        directory: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._out, self._err = directory / f"{name}.out", directory / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [str(each) for each in argv],
                cwd=directory,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """The end of what it has written to stderr."""
        return self._err.read_text(errors="replace")[-2000:]

    def wait_ready(self) -> str:
        """Return the rest of the first line ``<name> ready <rest>`` on its stdout."""
        until = time.monotonic() + DEADLINE_S
        while True:
            line, newline, _ = self._out.read_text().partition("\n")
            if newline:
                return line.removeprefix(f"{self.name} ready ")
            self._wait(until)

    def wait_listening(self, port: int, host: str = "127.0.0.1") -> None:
        """Wait until somebody listens there."""
        until = time.monotonic() + DEADLINE_S
        while True:
            with socket.socket() as sock:
                if sock.connect_ex((host, port)) == 0:
                    return
            self._wait(until)

    def _wait(self, until: float) -> None:
        if self._process.poll() is not None or time.monotonic() > until:
            raise UnavailableError(f"{self.name} does not start: {self.log}")
        time.sleep(0.02)

    def cpu_s(self) -> float:
        """Return the CPU time of all its threads and of what it has forked, in seconds.

        The kernel's CPU clock of each process (clock_getcpuclockid(3)): /proc/<pid>/stat says the
        same in steps of 10 ms.

        Raises:
            UnavailableError: it has ended.
        """
        used = 0.0
        for pid in self._alive():
            with suppress(OSError):  # a child that ends just now
                used += time.clock_gettime(~pid << 3 | 2)
        return used

    def resident_kib(self) -> int:
        """Return the resident memory of it and of what it has forked, in KiB.

        Raises:
            UnavailableError: it has ended.
        """
        total = 0
        for pid in self._alive():
            with suppress(OSError):
                found = _RESIDENT.search(Path(f"/proc/{pid}/status").read_text())
                total += int(found[1]) if found else 0
        return total

    def _alive(self) -> list[int]:
        if self._process.poll() is not None:
            raise UnavailableError(f"{self.name} has ended: {self.log}")
        return family(self.pid)

    def close(self) -> None:
        """End it and all that it has forked."""
        if self._process.poll() is not None:
            return
        children = family(self.pid)[1:]
        os.killpg(self.pid, signal.SIGKILL)
        for pid in children:  # a server may have given its children sessions of their own
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(DEADLINE_S)


def family(pid: int) -> list[int]:
    """Return the process and its descendants; sshd serves each client in a child."""
    found = [pid]
    for each in found:
        with suppress(OSError):
            found += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
    return found


def find_program(*names: str) -> str:
    """Return the path of the first of ``names`` that is on the PATH, or under ``PEERS_DIR``.

    Raises:
        UnavailableError: none is.
    """
    places = [os.environ.get(each, "") for each in ("PATH", "PEERS_DIR")]
    path = os.pathsep.join([*filter(None, places), "/usr/sbin", "/usr/local/sbin"])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    raise UnavailableError(f"{names[0]} is not installed")


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that are free now, for programs that cannot take port 0.

    None is returned twice, nor any that the kernel may give to a client meanwhile.
    """
    found: list[int] = []
    while len(found) < count:
        port = next(_ports)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            found.append(port)
    return found


_FIRST_PORT: Final = 20_000
_PORTS: Final = 12_000  # up to where ephemeral ports begin: ip_local_port_range in ip(7)
_ports: Final = itertools.cycle(
    _FIRST_PORT + (os.getpid() * 97 + number) % _PORTS for number in range(_PORTS)
)
