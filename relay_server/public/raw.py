"""Raw visitors: their bytes go over the raw socket of a link, as they are.

For traffic that is encrypted already. A raw link is told of its visitor (VISIT, our last word on
it); when the reverse-proxy has reached the destination it says READY, its own last word, and from
there on the kernel moves bytes between the two sockets.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from common.addresses import HostPort
from common.fairness import Share
from common.forwarding import MakeForwarder
from common.joint import Joint
from common.outcome import Outcome
from common.sockets import close_with_reset, end_with_reset, is_dead, keep_alive
from common.wire import Declined
from relay_server.metrics import Metrics
from relay_server.pending import PendingLink
from relay_server.public.claims import Claim
from relay_server.public.visitor import count, report, visit

ANSWER_S: Final = 25.0
"""Seconds from VISIT to READY: a reverse-proxy gives a name 10 s and an address 10 s."""
STALE_S: Final = 10.0


class RawVisitor:
    """A visitor until its stream is over; it owns its connection.

    Args:
        entered_at: the public address that it came in at.
        claim: what it wants.
        on_end: called once.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        address: HostPort,
        entered_at: HostPort,
        claim: Claim,
        make_forwarder: MakeForwarder,
        metrics: Metrics,
        on_end: Callable[[RawVisitor], None],
    ) -> None:
        self.claim = claim
        self.calls = 0
        """Links that have been told of this visitor."""
        self.accepted_at = loop.time()
        self._loop = loop
        self._sock = sock
        self._address, self._entered_at = address, entered_at
        self._make_forwarder = make_forwarder
        self._metrics = metrics
        self._on_end = on_end
        self._deadline: asyncio.TimerHandle | None = None
        self._joint: Joint | None = None

    def gone(self) -> bool:
        """Whether the connection has been reset already."""
        return is_dead(self._sock, STALE_S)

    def call(self, link: PendingLink) -> None:
        """Tell a raw link of this visitor; its answer, or its loss, is handed in here."""
        self.calls += 1
        self._deadline = self._loop.call_later(
            ANSWER_S, link.lose, f"no answer to VISIT within {ANSWER_S:g} s"
        )
        # The client may take the link for the visitor from now on, and a FIN for the visitor's end.
        link.end_with_reset()
        link.send(visit(self.claim, self._address, self._entered_at))

    def call_off(self) -> None:
        """Expect no answer any more: the link was lost."""
        self._settle()

    def declined(self, answer: Declined) -> None:
        """Take the reverse-proxy's no."""
        self.fail(Outcome.REFUSED, f"{answer.code}: {answer.detail}")

    def ready(self, link: PendingLink) -> None:
        """Join the two raw sockets."""
        self._settle()
        near = link.hand_over()
        end_with_reset(self._sock)
        keep_alive(near)
        self._joint = Joint(self._sock, near, self._make_forwarder, Share(), self._ended)
        self._joint.start()

    def fail(self, outcome: Outcome, detail: str) -> None:
        """Reset the connection: there is nobody at the other end."""
        self._settle()
        close_with_reset(self._sock)
        self._report(outcome, detail, 0, 0)

    def abort(self, reason: str) -> None:
        """End the stream now."""
        if self._joint is not None:
            self._joint.abort(reason)

    def tick(self, silent_s: float) -> None:
        """End the stream if bytes wait for a socket whose peer is dead."""
        if self._joint is not None and not self._joint.ended and self._joint.is_dead(silent_s):
            self._joint.abort("the connection is dead")

    def _settle(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _ended(self, reason: str) -> None:
        assert self._joint is not None  # noqa: S101 - it has just ended
        outcome = Outcome.LOST if reason else Outcome.FINISHED
        self._report(outcome, reason, *self._joint.moved)

    def _report(self, outcome: Outcome, detail: str, sent: int, received: int) -> None:
        seconds = self._loop.time() - self.accepted_at
        report(self.claim, self._address, outcome, detail, sent, received, seconds)
        count(self._metrics, outcome, sent, received)
        self._on_end(self)
