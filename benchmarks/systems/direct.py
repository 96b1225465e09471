"""No proxy at all: what the machine and the load can do."""

from __future__ import annotations

from benchmarks.systems.base import System


class Direct(System):
    """The client talks to the destination itself."""

    name = "direct"
    title = "no proxy"
    security = "none"

    def start(self) -> None:
        """Start nothing."""
        self.address = self.place.destination
