"""Raw visitors: their bytes go from the relay's link to the destination as they are.

For traffic that is encrypted already. The link was authenticated and the visitor announced on it
under TLS; then the TLS session is dropped and the kernel moves the bytes.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from common.errors import ProtocolError
from common.fairness import Share
from common.forwarding import MakeForwarder
from common.joint import Joint
from common.link import Link
from common.logs import event
from common.outcome import Outcome
from common.refusals import Refusal
from common.sockets import close_with_reset, end_with_reset, keep_alive
from common.tls import unwrap
from common.wire import Paired, Purpose, Visit
from reverse_proxy.dialler import Dial
from reverse_proxy.houses import Request, VisitorsHouse
from reverse_proxy.informing import Informer

log = logging.getLogger(__name__)


class RawJoiner:
    """Answers raw links.

    Args:
        house: says what a visitor may reach.
        informer: tells destinations who their client is.
        make_forwarder: makes one direction of a joint.
        on_end: told that a stream is over.
    """

    purpose: Purpose = "raw"

    def __init__(
        self,
        house: VisitorsHouse,
        informer: Informer,
        make_forwarder: MakeForwarder,
        on_end: Callable[[], None],
    ) -> None:
        self.joints: set[Joint] = set()
        self._house = house
        self._informer = informer
        self._make_forwarder = make_forwarder
        self._on_end = on_end

    async def join(self, link: Link, call: Paired | Visit | None) -> None:
        """Dial the destination of the visitor, and join the raw sockets.

        Raises:
            PeerError: nothing came of it; the link is closed.
        """
        try:
            if not isinstance(call, Visit):
                raise ProtocolError("PAIRED from the relay on a link that waits for a visitor")
            started_at = self._house.loop.time()
            self._house.metrics.streams_opened += 1
            request = self._house.visit(call, raw=True)
            far = request if isinstance(request, Refusal) else await self._dial(request)
            if isinstance(far, Refusal):
                self._house.metrics.streams_refused += 1
                known = None if isinstance(request, Refusal) else request
                detail = f"{far.code}: {far.detail}"
                self._report(known, Outcome.REFUSED, detail, (0, 0), started_at)
                await link.decline(far.code, far.detail)
                link.close()
                return
            assert isinstance(request, Request)  # noqa: S101 - or there would be no socket
            try:
                near = unwrap(await link.hand_over())
            except BaseException:
                close_with_reset(far)
                raise
        except BaseException:
            link.close()
            raise
        self._start(near, far, request, started_at)

    def tick(self, silent_s: float) -> None:
        """End streams of which bytes wait for a socket whose peer is dead."""
        for joint in list(self.joints):
            if joint.is_dead(silent_s):
                joint.abort("the connection is dead")

    def abort(self) -> None:
        """End every raw stream now."""
        for joint in list(self.joints):
            joint.abort("the grace is over")

    async def _dial(self, request: Request) -> socket.socket | Refusal:
        """Return the connected destination, greeted, or why there is none."""
        result: asyncio.Future[socket.socket | Refusal] = self._house.loop.create_future()
        dial = Dial(
            self._house.loop,
            request.destination.host,
            request.destination.port,
            request.judge,
            result.set_result,
            result.set_result,
            self._informer.source(request),
        )
        dial.start()
        try:
            far = await result
        except BaseException:
            dial.cancel()
            if result.done() and isinstance(sock := result.result(), socket.socket):
                sock.close()
            raise
        if isinstance(far, socket.socket):
            refusal = self._informer.greet(far, request)
            if refusal is not None:
                far.close()
                return refusal
        return far

    def _start(
        self, near: socket.socket, far: socket.socket, request: Request, started_at: float
    ) -> None:
        for each in (near, far):
            end_with_reset(each)
            keep_alive(each)

        def ended(reason: str) -> None:
            self.joints.discard(joint)
            outcome = Outcome.LOST if reason else Outcome.FINISHED
            metrics = self._house.metrics
            if reason:
                metrics.streams_failed += 1
            else:
                metrics.streams_finished += 1
            received, sent = joint.moved
            metrics.bytes_received += received
            metrics.bytes_sent += sent
            self._report(request, outcome, reason, (sent, received), started_at)
            self._on_end()

        joint = Joint(near, far, self._make_forwarder, Share(), ended)
        self.joints.add(joint)
        joint.start()

    def _report(
        self,
        request: Request | None,
        outcome: Outcome,
        detail: str,
        moved: tuple[int, int],
        started_at: float,
    ) -> None:
        event(
            log,
            logging.INFO if outcome is Outcome.FINISHED else logging.WARNING,
            "stream",
            budget_key=self._house.budget_key(outcome),
            source=str(request.source) if request else None,
            destination=str(request.destination) if request else None,
            outcome=outcome.value,
            sent=moved[0],
            received=moved[1],
            seconds=self._house.loop.time() - started_at,
            raw=True,
            detail=detail or None,
        )
