"""This suite: entry-point, relay-server and reverse-proxy with their default settings.

Logging is on as by default (one line at the end of each stream, written to a file).
"""

from __future__ import annotations

import re
import subprocess
import time
import urllib.request
from pathlib import Path

from benchmarks.processes import DEADLINE_S, Process, UnavailableError
from benchmarks.systems.base import ROOT, Place, System, python_module


def make_keys(place: Place) -> None:
    """Make what the programs, and the peers' TLS servers, identify themselves by."""
    for arguments in (["x509", "--dns", "localhost", "--ip", "127.0.0.1"], ["ed25519"]):
        subprocess.run(
            [*python_module("gen_cert"), *arguments],
            cwd=place.directory,
            env={"PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
        )


class Programs(System):
    """Programs of this suite, started with the benchmark's keys."""

    def __init__(self, place: Place, tree: Path = ROOT, room: str = "") -> None:
        super().__init__(place)
        self._tree = tree
        self._room = place.room(room or self.name)

    def _start(self, program: str, *arguments: str) -> Process:
        certificates = self._room / "cert"
        if not certificates.exists():
            certificates.symlink_to(self.place.certificate.parent)
        process = self.run(
            program,
            [*python_module(program.replace("-", "_")), *arguments],
            self._room,
            {"PYTHONPATH": str(self._tree)},
        )
        process.wait_ready()
        return process

    @staticmethod
    def _bound(process: Process, number: int = 0) -> str:
        return process.wait_ready().split(", ")[number]


class Suite(Programs):
    """Client -> entry-point -> relay-server -> reverse-proxy -> destination.

    Args:
        tree: whose programs to run: this one, or another checkout to compare with.
        channels: how many channels the entry-point keeps ready; 0 leaves the default.
        label: what to call another checkout.
    """

    name = "suite"
    title = "this suite, three programs"
    security = "both authenticated, end to end"

    def __init__(
        self, place: Place, *, tree: Path = ROOT, label: str = "", channels: int = 0
    ) -> None:
        if label:
            self.name, self.title = label, f"this suite, tree {label}"
        super().__init__(place, tree, f"{self.name}-{channels}")
        self._label, self._channels = label, channels

    def start(self) -> None:
        """Start the three programs, each ready before the next."""
        self.relay = self._start("relay-server", "--host", "127.0.0.1", "-p", "0")
        relay = self._bound(self.relay)
        self._start("reverse-proxy", "-s", relay)
        host, port = self.place.destination
        route = ("--bind", "127.0.0.1", "-r", f"0:{host}:{port}")
        count = self._channels
        pool = ("--pool", str(count), "--metrics", "127.0.0.1:0") if count else ()
        entry_point = self._start("entry-point", "-s", relay, *route, *pool)
        self.address = ("127.0.0.1", int(self._bound(entry_point).rpartition(":")[2]))
        if count:
            self._wait_channels(entry_point, count)

    def again(self, *, channels: int) -> Suite:
        """Return another one from the same tree."""
        return Suite(self.place, tree=self._tree, label=self._label, channels=channels)

    def _wait_channels(self, entry_point: Process, count: int) -> None:
        """Wait until so many channels are idle: as many pairs are joined at the relay."""
        until = time.monotonic() + DEADLINE_S + count / 20
        while (idle := _gauge(entry_point, "entry_point_channels_idle")) < count:
            if time.monotonic() > until:
                raise UnavailableError(
                    f"{self.name}: {idle:g} of {count} channels: {entry_point.log}"
                )
            time.sleep(0.1)


def _gauge(process: Process, name: str) -> float:
    match = re.search(r"metrics (\S+)", process.wait_ready())
    assert match, f"{process.name} was started without --metrics"
    with urllib.request.urlopen(f"http://{match[1]}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found, text
    return float(found[1])


def parse_tree(text: str) -> tuple[str, Path]:
    """Return label and path of ``label=path``.

    Raises:
        ValueError: it has another form, or there is no such tree.
    """
    label, equals, path = text.partition("=")
    tree = Path(path).resolve()
    if not equals or not (tree / "relay_server").is_dir():
        raise ValueError(f"not label=path of a tree of this suite: {text!r}")
    return label, tree
