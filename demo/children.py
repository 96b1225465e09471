"""The demo's child processes: each has a log file, is watched until ready, and is always ended.

Each runs in a session of its own: Ctrl-C in the terminal reaches the demo alone, which then ends
the others in order, by their process ids.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

READY_S: Final = 60.0
"""Seconds for a program to say that it is ready: one will do, but machines may be busy."""
END_S: Final = 5.0
"""Seconds for all children to end by themselves before they are killed."""

_SETTINGS: Final = ("RELAY_SERVER_", "REVERSE_PROXY_", "ENTRY_POINT_", "GEN_CERT_")
_SIGNALS: Final = [
    getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)
]


class DemoError(Exception):
    """The demo cannot go on; the message is for the user."""


class Stopped(BaseException):
    """A signal asked the demo to end."""


@dataclass(frozen=True)
class Child:
    """One program and where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def failed(self, what: str) -> DemoError:
        """Return the error that says what happened, with the end of the program's log."""
        lines = self.log.read_text("utf-8", "replace").splitlines()[-20:] or ["(nothing)"]
        return DemoError("\n  ".join([f"{self.name} {what}; its log:", *lines]))

    def said(self, pattern: str) -> str:
        """Return the group of ``pattern`` as soon as the program has printed it, or fail."""
        until = time.monotonic() + READY_S
        while not (match := re.search(pattern, self.log.read_text("utf-8", "replace"))):
            self.check()
            if time.monotonic() > until:
                raise self.failed(f"was not ready within {READY_S:g} s")
            time.sleep(0.05)
        return match[1]

    def check(self) -> None:
        """Fail if the program has ended."""
        if self.process.poll() is not None:
            raise self.failed(f"ended with status {self.process.returncode}")


class Children:
    """Starts programs in ``directory``; ends them all when the block is left, however it is left.

    Within the block SIGINT, SIGTERM and SIGHUP raise :class:`Stopped`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._children: list[Child] = []
        self._starting = self._stopped = False
        # Settings in the user's environment are meant for the user's own programs.
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_SETTINGS)}
        self._environment = {**kept, "PYTHONUNBUFFERED": "1"}

    def start(self, name: str, module: str, *args: str) -> Child:
        """Start ``python -m <module>``; ``name`` is what people call it."""
        self._starting = True  # a signal now would lose sight of the child
        log = self._directory / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own programs and arguments
                [sys.executable, "-m", module, *args],
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._children.append(Child(name, process, log))
        self._starting = False
        if self._stopped:
            raise Stopped
        return self._children[-1]

    def finish(self, child: Child) -> None:
        """Wait for a program that ends by itself; fail if it does not end well."""
        if status := child.process.wait(READY_S):
            raise child.failed(f"ended with status {status}")
        self._children.remove(child)

    def watch(self) -> None:
        """Wait for ever: only a signal or a program that ends (``DemoError``) ends this."""
        while True:
            for child in self._children:
                child.check()
            time.sleep(0.5)

    def __enter__(self) -> Children:
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number in _SIGNALS:  # the end has begun, and takes END_S at most
            signal.signal(number, signal.SIG_IGN)
        for child in reversed(self._children):
            child.process.terminate()
        until = time.monotonic() + END_S
        for child in reversed(self._children):
            try:
                child.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopped = True
        if not self._starting:
            raise Stopped
