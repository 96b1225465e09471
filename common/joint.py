"""Two raw sockets joined for good: what comes in at one goes out at the other.

An end (FIN) in one direction is passed on, and the other goes on for as long as it likes; an error
ends both with a RST.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from common.fairness import Share
from common.forwarding import MakeForwarder
from common.sockets import close_cleanly, close_with_reset, is_dead


class Joint:
    """Two forwarders over two sockets, which it owns.

    Args:
        share: of the loop, for both ways together.
        on_end: called once, with an empty text if both directions have ended, or what went wrong.
    """

    __slots__ = ("_on_end", "_sockets", "_ways", "ended")

    def __init__(
        self,
        one: socket.socket,
        other: socket.socket,
        make_forwarder: MakeForwarder,
        share: Share,
        on_end: Callable[[str], None],
    ) -> None:
        self.ended = False
        self._on_end = on_end
        self._sockets = one, other
        self._ways = (
            make_forwarder(one, other, share, self._way_ended),
            make_forwarder(other, one, share, self._way_ended),
        )

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes from the first socket to the second, and back."""
        return self._ways[0].moved, self._ways[1].moved

    @property
    def half_ended(self) -> bool:
        """Whether one direction has ended."""
        return any(way.ended for way in self._ways)

    @property
    def blocked(self) -> bool:
        """Whether bytes are held because a socket does not take them."""
        return any(way.blocked for way in self._ways)

    def start(self) -> None:
        """Begin to forward both ways."""
        for way in self._ways:
            way.start()

    def is_dead(self, silent_s: float) -> bool:
        """Whether bytes wait for a socket whose peer is dead to the kernel."""
        return self.blocked and any(is_dead(each, silent_s) for each in self._sockets)

    def abort(self, reason: str) -> None:
        """End both sockets with a RST, if the joint has not ended."""
        if not self.ended:
            for way in self._ways:
                way.stop()
            for sock in self._sockets:
                close_with_reset(sock)
            self._settle(reason)

    def _way_ended(self, error: OSError | None) -> None:
        if error is not None:
            self.abort(error.strerror or str(error))
        elif all(way.ended for way in self._ways) and not self.ended:
            for sock in self._sockets:
                close_cleanly(sock)
            self._settle("")

    def _settle(self, reason: str) -> None:
        self.ended = True
        self._on_end(reason)
