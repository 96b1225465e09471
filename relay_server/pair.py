"""A pair: two raw sockets that the relay has joined. What flows between them is ciphertext."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from common.fairness import Share
from common.forwarding import MakeForwarder
from common.frames import HEADER_SIZE
from common.joint import Joint
from common.session import RECORD_OVERHEAD
from relay_server.matchmaker import Party

SIGN_OF_LIFE: Final = HEADER_SIZE + RECORD_OVERHEAD
"""Bytes on the wire of a PING or PONG."""
LINGER_S: Final = 10.0
"""Seconds the second direction may go on after the first has ended: channels end as a whole."""


class Pair(Joint):
    """A joint of two links, and whose they are.

    An end in one direction is passed on and gives the other one ``LINGER_S`` to end as well; an
    error ends both sockets with a RST. ``on_end`` is called once, with the reason.
    """

    __slots__ = ("_seen", "addresses", "half_ended_at", "moved_at", "parties")

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
        super().__init__(
            one,
            other,
            make_forwarder,
            Share(ignored=SIGN_OF_LIFE),
            lambda reason: on_end(self, reason or "ended"),
        )
        self.parties = parties
        self.addresses = addresses
        self.moved_at = now
        self.half_ended_at: float | None = None
        self._seen = 0

    def sweep(self, now: float, silent_s: float) -> None:
        """End the pair if it is dead; call every few seconds.

        It is dead when no byte moved for ``silent_s`` seconds although nobody is blocked (partners
        ping each other more often), when a partner that bytes wait for is dead to the kernel, or
        when one direction has ended and the other does not.
        """
        moved = sum(self.moved)
        if moved != self._seen:
            self._seen, self.moved_at = moved, now
        if self.half_ended_at is None:
            if self.half_ended:
                self.half_ended_at = now
        elif now - self.half_ended_at >= LINGER_S:
            self.abort("one side ended and the other did not")
            return
        if self.is_dead(silent_s):
            self.abort("a partner is dead")
        elif not self.blocked and now - self.moved_at >= silent_s:
            self.abort(f"silent for {now - self.moved_at:.0f} s")
