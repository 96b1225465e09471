"""No proxy at all: what the machine and the load can do."""

from __future__ import annotations

from benchmarks.systems.base import TCP, UDP, System


class Direct(System):
    """The client talks to the destination itself."""

    name = "direct"
    title = "no proxy"
    security = "none"
    variants = (TCP | UDP) - {"crowd"}

    def start(self) -> None:
        """Start nothing but the way there."""
        self.address = self.between(self.place.destination)
