"""Attackers at work on a relay, and what the relay must show of them.

An attack that did not take place proves nothing: each kind has an effect that the relay counts.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from relay_server.admission import PER_SOURCE, places
from tests.programs.harness import DEADLINE_S, ROOT, Program, Suite

SILENT_KIB, HANDSHAKE_KIB = 12, 82
"""Memory of one stranger at the most: 10 KiB while silent, and 55 to 75 KiB in all once its TLS
session is made, the more the more there are. A tenth more is for the allocator."""
SETTLING_KIB = 3 * 1024
"""What a flood needs beside its strangers: the log, the loop, and the allocator's fragments."""
SHARE = 0.9
"""Of the attackers, how many must have done what they are for: the rest is for a busy machine."""
LOST = 0.05
"""Of them, how many may have found no way to the relay, or have been forgotten by it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How attackers of a kind show at the relay.

    Attributes:
        counter: the relay's, that rises by one for each of them.
        stays: whether each keeps its place until its deadline.
        heard: whether the relay says something to each.
        kib: memory of each at the relay, at the most.
    """

    counter: str = "logins_failed"
    stays: bool = False
    heard: bool = False
    kib: int = HANDSHAKE_KIB


KINDS = {
    "silent": Kind(stays=True, kib=SILENT_KIB),
    "drip": Kind(stays=True),
    "stuck": Kind(stays=True, heard=True),
    "garbage": Kind(),
    "hello": Kind(heard=True),
    "login": Kind("links_denied", heard=True),
    "churn": Kind(),
}


class Attack:
    """Attackers at work.

    Args:
        count: of the attackers, at once.
        sources: addresses that they come from.

    Attributes:
        tried: how often one of them came; this and the next three are known when it is over.
        unreached: how many of these found no way to the relay.
        forgotten: how many were neither served nor thrown out, long after the relay's deadline.
        heard: how many the relay said something to.
        strangers: the most that were seen at once, ``due`` if all had a place.
        growth_kib: the most memory that the relay was seen to have beyond what it had before.
    """

    def __init__(self, relay: Program, kind: str, count: int, sources: int) -> None:
        self.tried = self.unreached = self.forgotten = self.heard = 0
        self.strangers = self.growth_kib = 0
        descriptors, _ = resource.prlimit(relay.pid, resource.RLIMIT_NOFILE)
        self.due = min(count, sources * PER_SOURCE, places(descriptors))
        self._relay, self._kind, self._count = relay, KINDS[kind], count
        self._memory = relay.resident_kib()
        self._before = relay.metric(self._kind.counter)

    def in_force(self) -> bool:
        """Look at the relay, and return whether it has shown what it must show."""
        metrics = self._relay.metrics()
        self.strangers = max(self.strangers, int(metrics["strangers"]))
        self.growth_kib = max(self.growth_kib, self._relay.resident_kib() - self._memory)
        if self._kind.stays:
            return self.strangers >= SHARE * self.due
        return metrics[self._kind.counter] >= self._before + 2 * self._count

    def check(self, figure: str) -> None:
        """Fail, with ``figure``, if the attack did not take place, or took too much memory.

        Raises:
            AssertionError: it is over, and that is so.
        """
        self._relay.wait_metric("strangers", lambda count: count == 0)
        reached = self.tried - self.unreached
        counted = self._relay.metric(self._kind.counter) - self._before
        # Those who were on their way when it ended have not all come to the end of it.
        done = reached if self._kind.stays else reached - self._count
        told = f"{self}, {counted:.0f} {self._kind.counter}; {figure}"
        assert self.in_force(), told
        assert self.unreached <= LOST * self.tried, told
        assert self.forgotten <= LOST * self.tried, told
        assert counted >= SHARE * done > 0, told
        assert not self._kind.heard or self.heard >= SHARE * (reached - self._count), told
        assert self.growth_kib < SETTLING_KIB + self._kind.kib * self.strangers, told

    def __str__(self) -> str:
        return (
            f"of {self.tried:,} {self.unreached} unreached, {self.forgotten} forgotten,"
            f" {self.heard} heard something; at most {self.strangers} of {self.due} strangers"
        )


@contextmanager
def attackers(
    suite: Suite,
    relay: Program,
    kind: str,
    count: int,
    sources: int,
    *,
    key: str = "",
    seed: int = 1,
) -> Iterator[Attack]:
    """Let ``count`` attackers loose; how often they came is known after the block."""
    certificate = str(suite.path("server.crt"))
    command = [sys.executable, "-m", "tests.battery.attackers", kind]
    known = ["--identity", str(suite.path(key))] if key else []
    attack = Attack(relay, kind, count, sources)
    with subprocess.Popen(
        [
            *(*command, str(relay.addresses()[0]), certificate, "--seed", str(seed)),
            *("--count", str(count), "--sources", str(sources), *known),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "attacking\n"
            yield attack
            out, _ = process.communicate(timeout=DEADLINE_S)
            for name, value in json.loads(out).items():
                setattr(attack, name, value)
        finally:
            process.kill()
