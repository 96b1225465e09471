"""Asks a channel that has been silent for a while for a sign of life before a source's bytes go in.

PING and OPEN go out together, so the destination is dialled in the meantime; the bytes follow the
PONG. If none comes, nothing of the source's has been sent, and it takes another channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from common import frames
from common.channel import Channel

PROOF_DEADLINE_S: Final = 3.0
"""Seconds for one round trip to the partner; a satellite path needs 1.2."""


class Proof:
    """The channel's handler between OPEN and the first PONG.

    Args:
        channel: silent for a while, but not known to be dead.
        request: the OPEN frame.
        on_alive: takes over the channel; called at most once.
        on_dead: called with a reason instead, at most once; the channel is closed. Never from
            within :meth:`ask`: the next channel may be dead as well, and the one after it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        channel: Channel,
        request: bytes,
        on_alive: Callable[[], None],
        on_dead: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._request = request
        self._on_alive, self._on_dead = on_alive, on_dead
        self._timer: asyncio.TimerHandle | None = None
        self._dead = False

    def ask(self) -> None:
        """Ask; one of the callbacks follows."""
        reason = f"no sign of life within {PROOF_DEADLINE_S:g} s"
        self._timer = self._loop.call_later(PROOF_DEADLINE_S, self.give_up, reason)
        self._channel.handler = self
        self._channel.ping()
        if not self._channel.closed:
            self._channel.write(self._request)

    def give_up(self, reason: str) -> None:
        """Take the channel for dead."""
        self._channel.abort()
        self.on_lost(reason)

    def on_data(self, data: memoryview) -> int:  # noqa: ARG002 - a Handler
        """Refuse data: the PONG goes before it."""
        raise frames.not_allowed(frames.DATA, "before the PONG that was asked for")

    def on_frame(self, kind: int, payload: bytes) -> None:  # noqa: ARG002 - a Handler
        """Take the PONG as proof."""
        if kind == frames.PONG:
            self._settle()
            self._on_alive()
        elif kind != frames.GOAWAY:
            raise frames.not_allowed(kind, "before the PONG that was asked for")

    def on_drained(self) -> None:
        """Nothing more is written before the proof."""

    def on_tick(self) -> None:
        """The timer is all there is to look after."""

    def on_lost(self, reason: str) -> None:
        """Take the loss for the answer."""
        self._settle()
        if not self._dead:
            self._dead = True
            self._loop.call_soon(self._on_dead, reason)

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
