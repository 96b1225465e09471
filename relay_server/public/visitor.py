"""Visitors: connections to a public port, on their way to the service that is exposed there."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from common import frames
from common.addresses import HostPort
from common.logs import event
from common.outcome import Outcome
from common.socket_caller import SocketCaller
from common.wire import Visit
from relay_server.metrics import Metrics
from relay_server.public.claims import Claim

log = logging.getLogger(__name__)


class Visitor(SocketCaller):
    """A visitor whose bytes go through an encrypted channel.

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
        metrics: Metrics,
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(loop, sock, address)
        self.claim = claim
        self._entered_at = entered_at
        self._metrics = metrics
        self._on_end = on_end

    def request(self) -> bytes:
        """Return the VISIT frame that asks for the exposure."""
        return frames.encode_visit(visit(self.claim, self.address, self._entered_at))

    def ended(self, outcome: Outcome, detail: str) -> None:
        """Report how it went."""
        report(self.claim, self.address, outcome, detail, self.sent, self.received, self.seconds)
        count(self._metrics, outcome, self.sent, self.received)
        self._on_end()


def visit(claim: Claim, address: HostPort, entered_at: HostPort) -> Visit:
    """Return what the reverse-proxy is told of a visitor."""
    return Visit(claim.id, address.host, address.port, entered_at.host, entered_at.port)


def count(metrics: Metrics, outcome: Outcome, sent: int, received: int) -> None:
    """Count a visitor that has gone."""
    metrics.visitor_bytes_sent += sent
    metrics.visitor_bytes_received += received
    if outcome is Outcome.FINISHED:
        metrics.visitors_finished += 1
    else:
        metrics.visitors_failed += 1


def report(
    claim: Claim,
    address: HostPort,
    outcome: Outcome,
    detail: str,
    sent: int,
    received: int,
    seconds: float,
) -> None:
    """Tell what became of a visitor, in one line."""
    event(
        log,
        logging.INFO if outcome is Outcome.FINISHED else logging.WARNING,
        "visitor",
        budget_key=None if outcome is Outcome.FINISHED else f"visitor {outcome.value}",
        visitor=str(address),
        exposure=str(claim),
        outcome=outcome.value,
        sent=sent,
        received=received,
        seconds=seconds,
        detail=detail or None,
    )
