"""Starts the real programs on loopback and watches them: ready lines, logs, counters, ends.

Every wait has a deadline and a condition; there is no bare sleep. Ports are 0 and read from the
ready lines. Everything started through a :class:`Suite` is ended with it, by its process id.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

from common.addresses import HostPort, parse_host_port
from common.key_files import write_private, write_public
from common.keys import Identity
from gen_cert.ed25519 import public_file, random_seed
from gen_cert.names import parse_names
from gen_cert.x509 import make_certificate

DEADLINE_S = 20.0
"""For anything that takes milliseconds on an idle machine."""

T = TypeVar("T")


def wait_for(
    condition: Callable[[], T], what: str, deadline_s: float = DEADLINE_S, step_s: float = 0.02
) -> T:
    """Return the first true value of ``condition``; fail with ``what`` after the deadline."""
    until = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"not within {deadline_s:g} s: {what}")
        time.sleep(step_s)


class Program:
    """One running program; its output is read all the time."""

    def __init__(self, name: str, *args: str, cwd: Path, env: dict[str, str] | None = None) -> None:
        self.name = name
        self.lines: list[str] = []
        """What it has logged, line by line."""
        self._ready: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", name.replace("-", "_"), *args],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._threads = [
            threading.Thread(target=_drain, args=(stream, lines), daemon=True)
            for stream, lines in (
                (self.process.stdout, self._ready),
                (self.process.stderr, self.lines),
            )
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def ready(self, deadline_s: float = DEADLINE_S) -> str:
        """Return what the ready line says after ``<program> ready``."""

        def line() -> str:
            if self.process.poll() is not None and not self._ready:
                raise AssertionError(f"{self.name} ended ({self.process.returncode}): {self.log}")
            return self._ready[0] if self._ready else ""

        text = wait_for(line, f"{self.name} is ready; log: {self.log}", deadline_s)
        assert text.startswith(f"{self.name} ready "), text
        return text.removeprefix(f"{self.name} ready ").strip()

    def addresses(self) -> list[HostPort]:
        """Return what the ready line says is bound; all-addresses are reached by loopback."""
        bound = [
            each
            for each in self.ready().split(", ")
            if not each.startswith("metrics ") and " -> " not in each
        ]
        return [
            HostPort("127.0.0.1", each.port) if each.host in ("::", "0.0.0.0") else each
            for each in (parse_host_port(text) for text in bound)
        ]

    def exposed(self) -> list[HostPort]:
        """Return the public ports that a reverse-proxy holds, in the order they were granted."""
        count = len(re.findall(r"\d(?:/udp)? -> ", self.ready()))

        def found() -> list[str]:  # the log may be read a moment after the ready line
            ports = re.findall(r" exposed .*public=([^/\s\"]+:\d+)(?:/udp)? ", self.log)
            return ports if len(ports) >= count else []

        return [parse_host_port(each) for each in wait_for(found, "public ports in the log")]

    def metrics(self) -> dict[str, float]:
        """Return the program's own counters and gauges, without the program's prefix."""
        match = re.search(r"metrics ([^\s,]+)", self.ready())
        assert match, f"{self.name} was started without --metrics"
        with urllib.request.urlopen(f"http://{match[1]}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        prefix = self.name.replace("-", "_") + "_"
        return {
            name.removeprefix(prefix).removesuffix("_total"): float(value)
            for name, value in re.findall(r"^(\w+)(?:{.*})? (\S+)$", text, re.MULTILINE)
        }

    def metric(self, name: str) -> float:
        return self.metrics()[name]

    def wait_log(self, pattern: str, deadline_s: float = DEADLINE_S) -> str:
        """Return the first log line that ``pattern`` (a regular expression) is found in."""

        def found() -> str:
            return next((line for line in list(self.lines) if re.search(pattern, line)), "")

        try:
            return wait_for(found, f"{self.name} logs {pattern!r}", deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; its log:\n{self.log}") from None

    def wait_metric(
        self, name: str, good: Callable[[float], bool], deadline_s: float = DEADLINE_S
    ) -> float:
        """Return the value of a counter or gauge as soon as ``good`` accepts it."""
        seen: list[float] = []

        def value() -> bool:
            seen[:] = [self.metric(name)]
            return good(seen[0])

        try:
            wait_for(value, name, deadline_s, step_s=0.05)
        except AssertionError as error:
            raise AssertionError(f"{self.name}: {error}, last {seen}; log:\n{self.log}") from None
        return seen[0]

    def resident_kib(self) -> int:
        """Return the resident memory in KiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match
        return int(match[1])

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Return the exit status."""
        try:
            status = self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} does not end; its log:\n{self.log}") from None
        for thread in self._threads:
            thread.join(5)
        return status

    def kill(self) -> None:
        """End it as a crash would (``kill -9``)."""
        self.process.kill()
        self.wait()

    def end(self) -> None:
        """Make sure that it has ended and its pipes are closed."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


class Suite:
    """Keys, a certificate, and the programs that a test starts with them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.programs: list[Program] = []
        certificate = make_certificate(
            parse_names(["localhost"], ["127.0.0.1"]), 365, datetime.now(UTC)
        )
        write_public(self.path("server.crt"), certificate.certificate)
        write_private(self.path("server.key"), certificate.key)
        self.identity = self.new_identity("auth")

    def path(self, name: str) -> Path:
        path = self.directory / "cert" / name
        path.parent.mkdir(exist_ok=True)
        return path

    def new_identity(self, name: str) -> Identity:
        """Write ``cert/<name>`` and ``cert/<name>.pub``."""
        identity = Identity.from_seed(random_seed(), name)
        write_private(self.path(name), identity.to_openssh())
        write_public(self.path(f"{name}.pub"), public_file(identity))
        return identity

    def start(self, name: str, *args: str, env: dict[str, str] | None = None) -> Program:
        program = Program(name, *args, cwd=self.directory, env=env)
        self.programs.append(program)
        return program

    def relay(self, *args: str, port: int = 0) -> Program:
        """Start a relay-server with metrics and a heartbeat of half a second."""
        program = self.start(
            "relay-server",
            *("--host", "127.0.0.1", "-p", str(port), "--metrics", "127.0.0.1:0"),
            *("--heartbeat", "0.5", *args),
        )
        program.ready()
        return program

    def reverse_proxy(self, relay: Program | HostPort, *args: str) -> Program:
        """Start a reverse-proxy and wait until the relay has welcomed it."""
        program = self.start(
            "reverse-proxy", "-s", str(_address(relay)), "--metrics", "127.0.0.1:0", *args
        )
        program.ready()
        return program

    def entry_point(self, relay: Program | HostPort, *args: str, channels: int = 1) -> Program:
        """Start an entry-point (give ``-r``) and wait until it has ``channels`` ready ones."""
        program = self.start(
            "entry-point",
            *("-s", str(_address(relay)), "--metrics", "127.0.0.1:0", "--bind", "127.0.0.1"),
            *args,
        )
        program.ready()
        if channels:
            program.wait_metric("channels_idle", lambda count: count >= channels)
        return program

    def chain(self, destination: HostPort) -> tuple[Program, Program, Program, HostPort]:
        """Start all three; return them and the address a source connects to."""
        relay = self.relay()
        reverse_proxy = self.reverse_proxy(relay)
        entry_point = self.entry_point(relay, "-r", f"0:{destination}")
        return relay, reverse_proxy, entry_point, entry_point.addresses()[0]

    def close(self) -> None:
        for program in self.programs:
            program.end()

    def __enter__(self) -> Suite:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def tell(self) -> None:
        """Print what every program has logged: pytest shows it beside a failure."""
        for program in self.programs:
            early = [line for line in program.lines[:-50] if " info " not in line]
            lines = early[:50] + program.lines[-50:]
            print(f"--- {program.name} ({program.pid})", *lines, sep="\n")


def _address(relay: Program | HostPort) -> HostPort:
    return relay.addresses()[0] if isinstance(relay, Program) else relay


def _drain(stream: IO[str], lines: list[str]) -> None:
    lines.extend(line.rstrip("\n") for line in stream)


ROOT = Path(__file__).resolve().parents[2]
