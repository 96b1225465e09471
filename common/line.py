"""One channel as its opener sees it, and the account it is kept in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from common import frames
from common.channel import Channel, log_idle_loss
from common.joined import Joined
from common.pool import HighWater

log = logging.getLogger(__name__)


class Owner(Protocol):
    """Who is told what becomes of an idle channel."""

    loop: asyncio.AbstractEventLoop

    def retire(self, line: Line) -> None:
        """Start no further stream on the channel."""

    def rested(self, line: Line) -> None:
        """Use the channel again, or forget it if it is closed: the stream before is over."""

    def forget(self, line: Line) -> None:
        """Strike the channel from the account: it has ended."""


class Line:
    """One channel and what the opener knows about it; the channel's handler while it is idle."""

    __slots__ = ("_owner", "_resting", "account", "channel", "heartbeat_s", "instance", "partner")

    def __init__(self, owner: Owner, account: Account, joined: Joined) -> None:
        self._owner = owner
        self._resting = False
        self.account = account
        self.partner = joined.partner
        self.instance = joined.instance
        self.heartbeat_s = joined.heartbeat_s
        self.channel = Channel(owner.loop, joined.session, self, joined.heartbeat_s)

    def rest(self) -> None:
        """Wait for DONE: the acceptor may still be delivering what came before our FIN."""
        self._resting = True
        self.channel.handler = self

    def on_data(self, data: memoryview) -> int:  # noqa: ARG002 - a Handler
        """Refuse data: no stream is open."""
        raise frames.not_allowed(frames.DATA, "on an idle channel")

    def on_frame(self, kind: int, payload: bytes) -> None:  # noqa: ARG002 - a Handler
        """Leave the pool when the acceptor asks for it, or resets the channel."""
        if kind == frames.GOAWAY:
            self._owner.retire(self)
        elif kind == frames.DONE and self._resting:
            self._resting = False
            self._owner.rested(self)
        elif kind == frames.RESET:  # the stream before ended well for us, and badly for them
            self.channel.lose("reset by the acceptor")
        elif kind != frames.PONG:
            raise frames.not_allowed(kind, "on an idle channel")

    def on_drained(self) -> None:
        """Nothing waits for an idle channel to drain."""

    def on_tick(self) -> None:
        """An idle channel owns nothing else."""

    def on_lost(self, reason: str) -> None:
        """Forget the channel."""
        log_idle_loss(log, self.partner, reason)
        if self._resting:
            self._resting = False
            self._owner.rested(self)
        else:
            self._owner.forget(self)


class Account:
    """The channels that come from one place: a relay (entry-point) or a reverse-proxy (relay).

    Args:
        linger_s: seconds after which channels opened in a burst are closed again.
        on_change: told that the need, or what there is, has changed.
    """

    def __init__(self, linger_s: float, on_change: Callable[[], None]) -> None:
        self.lines: set[Line] = set()
        self.busy = 0
        """Channels that carry a stream, or wait for DONE after one."""
        self.mark = HighWater(linger_s)
        self.on_change = on_change
