"""This suite: entry-point, relay-server and reverse-proxy with their default settings.

Logging is on as by default (one line at the end of each stream, written to a file).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.processes import Process
from benchmarks.systems.base import ROOT, TCP, UDP, Place, System, python_module, to_address

ROOM_TO_SPARE: Final = 500
"""Channels beyond those that are in use: half of a pool, and what a burst has added."""
DEFAULT_CHANNELS: Final = 4096
"""What ``--max-channels`` is by default."""


class Programs(System):
    """Programs of this suite, started with the benchmark's keys."""

    def __init__(self, place: Place, tree: Path = ROOT) -> None:
        super().__init__(place)
        self._tree = tree

    def _start_relay(self, *arguments: str) -> None:
        """Start the relay."""
        self.relay = self._start("relay-server", "--host", "127.0.0.1", "-p", "0", *arguments)

    def _start_client(self, program: str, *arguments: str) -> Process:
        """Start one of the programs that dial the relay."""
        assert self.relay
        host, port = self.between(to_address(self._bound(self.relay)))
        channels = max((each + ROOM_TO_SPARE for each in self.place.crowd), default=0)
        more = ("--max-channels", str(channels)) if channels > DEFAULT_CHANNELS else ()
        return self._start(program, "-s", f"{host}:{port}", *more, *arguments)

    def _start(self, program: str, *arguments: str) -> Process:
        room = self.place.room(self.name)
        certificates = room / "cert"
        if not certificates.exists():
            certificates.symlink_to(self.place.certificate.parent)
        process = self.run(
            program,
            [*python_module(program.replace("-", "_")), *arguments],
            room,
            {"PYTHONPATH": str(self._tree)},
        )
        process.wait_ready()
        return process

    def _target(self) -> str:
        """Return the destination as routes and exposures write it."""
        host, port = self.place.destination
        return f"{host}:{port}{'/udp' if self.place.datagrams else ''}"

    @staticmethod
    def _bound(process: Process, number: int = 0) -> str:
        return process.wait_ready().split(", ")[number]


class Suite(Programs):
    """Client -> entry-point -> relay-server -> reverse-proxy -> destination.

    Args:
        tree: whose programs to run: this one, or another checkout to compare with.
        label: what to call another checkout.
    """

    name = "suite"
    title = "this suite, three programs"
    security = "end to end; both authenticated"
    variants = TCP | UDP

    def __init__(self, place: Place, *, tree: Path = ROOT, label: str = "") -> None:
        if label:
            self.name, self.title = label, f"this suite, tree {label}"
        super().__init__(place, tree)

    def start(self) -> None:
        """Start the three programs, each ready before the next."""
        self._start_relay()
        self._start_client("reverse-proxy")
        route = ("--bind", "127.0.0.1", "-r", f"0:{self._target()}")
        entry_point = self._start_client("entry-point", *route)
        self.address = to_address(self._bound(entry_point).removesuffix("/udp"))


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
