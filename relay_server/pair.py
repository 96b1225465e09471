"""A pair: two raw sockets that the relay has joined. What flows between them is ciphertext."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from common.sockets import close_with_reset, is_dead
from relay_server.forwarding import Forwarder, OnEnd
from relay_server.matchmaker import Party

LINGER_S: Final = 10.0
"""Seconds the second direction may go on after the first has ended: channels end as a whole."""

MakeForwarder = Callable[[socket.socket, socket.socket, OnEnd], Forwarder]


class Pair:
    """Two forwarders over two sockets, which it owns.

    An end in one direction is passed on and gives the other one ``LINGER_S`` to end as well; an
    error ends both sockets with a RST. ``on_end`` is called once, with the reason.
    """

    __slots__ = (
        "_on_end",
        "_seen",
        "_sockets",
        "_ways",
        "addresses",
        "ended",
        "half_ended_at",
        "moved_at",
        "parties",
    )

    def __init__(
        self,
        one: socket.socket,
        other: socket.socket,
        parties: tuple[Party, Party],
        addresses: tuple[str, str],
        make_forwarder: MakeForwarder,
        on_end: Callable[[Pair, str], None],
        now: float,
    ) -> None:
        self.parties = parties
        self.addresses = addresses
        self.ended = False
        self.moved_at = now
        self.half_ended_at: float | None = None
        self._seen = 0
        self._on_end = on_end
        self._sockets = one, other
        self._ways = (
            make_forwarder(one, other, self._way_ended),
            make_forwarder(other, one, self._way_ended),
        )

    def start(self) -> None:
        """Begin to forward both ways."""
        for way in self._ways:
            way.start()

    def sweep(self, now: float, silent_s: float) -> None:
        """End the pair if it is dead; call every few seconds.

        It is dead when no byte moved for ``silent_s`` seconds although nobody is blocked (partners
        ping each other more often), when a partner that bytes wait for is dead to the kernel, or
        when one direction has ended and the other does not.
        """
        moved = self._ways[0].moved + self._ways[1].moved
        if moved != self._seen:
            self._seen, self.moved_at = moved, now
        if self.half_ended_at is None:
            if any(way.ended for way in self._ways):
                self.half_ended_at = now
        elif now - self.half_ended_at >= LINGER_S:
            self.abort("one side ended and the other did not")
            return
        blocked = [way.blocked for way in self._ways]
        if any(blocked):
            if any(is_dead(each, silent_s) for each in self._sockets):
                self.abort("a partner is dead")
        elif now - self.moved_at >= silent_s:
            self.abort(f"silent for {now - self.moved_at:.0f} s")

    def abort(self, reason: str) -> None:
        """End both sockets with a RST, if the pair has not ended."""
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
                sock.close()
            self._settle("ended")

    def _settle(self, reason: str) -> None:
        self.ended = True
        self._on_end(self, reason)
