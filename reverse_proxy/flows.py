"""The far end of a stream of datagrams: a UDP socket to the destination for each flow.

The destination is resolved and judged once, when the stream begins; each flow's socket is connected
to it, so the kernel lets nobody else's datagrams in.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Final

from common import frames
from common.channel import Channel
from common.datagram_queue import DatagramQueue
from common.flow_table import IDLE_S, MOST_FLOWS
from common.logs import event
from common.outcome import Outcome
from common.refusals import Refusal
from common.sockets import UDP_BUFFER
from reverse_proxy.houses import Request
from reverse_proxy.metrics import Metrics
from reverse_proxy.resolver import literal, resolve

log = logging.getLogger(__name__)

BATCH: Final = 64
"""Datagrams of one flow taken at once before the loop turns to others."""
BATCH_BYTES: Final = 256 * 1024
"""Bytes after which no further datagram is taken at once."""
MOST: Final = 2 * MOST_FLOWS
"""Flows of one stream: the opener's limit is half of it, and its FORGET may be on its way."""
LONGEST_IDLE_S: Final = 10 * IDLE_S
"""Seconds after which a flow is over here, in case the opener never says so."""

_FIN: Final = frames.encode(frames.FIN)
_DONE: Final = frames.encode(frames.DONE)
_RESET: Final = frames.encode(frames.RESET)
_ROOM: Final = frames.MAX_DATAGRAM + 1


class _Flow:
    """One flow's socket."""

    __slots__ = ("sock", "used_at")

    def __init__(self, sock: socket.socket, now: float) -> None:
        self.sock = sock
        self.used_at = now


class FlowDesk:
    """Takes a channel over for one stream of datagrams; ``on_end`` is called once, at its end.

    Args:
        on_end: told how it ended; the channel is then closed, or idle.
        on_refused: told instead, before anything has begun: the destination may not be reached.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        channel: Channel,
        request: Request,
        metrics: Metrics,
        on_end: Callable[[Outcome, str], None],
        on_refused: Callable[[Refusal], None],
    ) -> None:
        self.sent = 0
        """Bytes from the destination."""
        self.received = 0
        """Bytes to the destination."""
        self._loop = loop
        self._channel = channel
        self._request = request
        self._metrics = metrics
        self._on_end, self._on_refused = on_end, on_refused
        self._address = ""
        self._flows: dict[int, _Flow] = {}
        self._queue = DatagramQueue()
        self._resolving: asyncio.Task[None] | None = None
        self._over = False

    def start(self) -> None:
        """Find the destination; frames wait until it is known."""
        self._channel.handler = self
        found = literal(self._request.destination.host)
        if isinstance(found, Refusal):
            self._refuse(found)
        elif found[1]:
            self._judge([found[0]])
        else:
            self._channel.pause()
            self._resolving = self._loop.create_task(self._resolve(found[0]))

    def stop(self, outcome: Outcome, detail: str) -> None:
        """End at once."""
        if not self._channel.closed:
            if self._channel.drained and self._channel.write(_RESET):
                self._channel.close()
            else:
                self._channel.abort()
        self._finish(outcome, detail)

    # What the channel reports

    def on_data(self, data: memoryview) -> int:  # noqa: ARG002 - a Handler
        """Refuse bytes without boundaries."""
        raise frames.not_allowed(frames.DATA, "in a stream of datagrams")

    def on_frame(self, kind: int, payload: bytes) -> None:
        """Pass datagrams on; follow FLOW, FORGET, FIN and RESET."""
        if kind == frames.DATAGRAM:
            self._send(frames.flow_id(payload), memoryview(payload)[frames.FLOW_ID.size :])
        elif kind == frames.FLOW:
            self._begin(frames.decode_flow(payload))
        elif kind == frames.FORGET:
            self._forget(frames.flow_id(payload))
        elif kind == frames.FIN:
            self._channel.write(_FIN + _DONE)
            self._finish(Outcome.FINISHED, "")
        elif kind == frames.RESET:
            self._channel.close()
            self._finish(Outcome.RESET_BY_SOURCE, "")
        elif kind != frames.PONG:
            raise frames.not_allowed(kind, "in a stream of datagrams")

    def on_drained(self) -> None:
        """Send what waits."""
        if len(self._queue):
            self._channel.write(self._queue.take())

    def on_lost(self, reason: str) -> None:
        """Let go of every flow."""
        self._finish(Outcome.LOST, reason)

    def on_tick(self) -> None:
        """Let go of flows that nobody has used for long."""
        now = self._loop.time()
        for number, flow in list(self._flows.items()):
            if now - flow.used_at >= LONGEST_IDLE_S:
                self._forget(number)
                self._write(frames.encode_forget(number), datagram=False)

    # The destination

    async def _resolve(self, host: str) -> None:
        found = await resolve(self._loop, host, self._request.destination.port)
        self._resolving = None
        if isinstance(found, Refusal):
            self._refuse(found)
        else:
            self._judge(found)
        self._channel.resume()

    def _judge(self, addresses: list[str]) -> None:
        """Take the first address that may be reached."""
        where = self._request.destination
        refusal: Refusal | None = None
        for address in addresses:
            refusal = self._request.judge(where.host, address, where.port)
            if refusal is None:
                self._address = address
                return
        self._refuse(refusal or Refusal("unresolved", f"{where.host!r} has no address here"))

    def _refuse(self, refusal: Refusal) -> None:
        if not self._over:
            self._over = True
            self._on_refused(refusal)

    # Flows

    def _begin(self, flow: frames.Flow) -> None:
        if flow.id in self._flows:
            raise frames.not_allowed(frames.FLOW, "for a flow that there is")
        if len(self._flows) >= MOST:
            oldest = min(self._flows, key=lambda each: self._flows[each].used_at)
            self._forget(oldest)
            self._write(frames.encode_forget(oldest), datagram=False)
        try:
            sock = self._connect()
        except OSError as error:
            event(
                log,
                logging.WARNING,
                "no socket for a flow",
                budget_key="no socket for a flow",
                destination=str(self._request.destination),
                reason=error.strerror,
            )
            self._write(frames.encode_forget(flow.id), datagram=False)
            return
        self._metrics.flows_opened += 1
        self._flows[flow.id] = _Flow(sock, self._loop.time())
        self._loop.add_reader(sock.fileno(), self._on_readable, flow.id)

    def _connect(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER // 4)
            sock.connect((self._address, self._request.destination.port))
        except OSError:
            sock.close()
            raise
        return sock

    def _send(self, number: int, data: memoryview) -> None:
        flow = self._flows.get(number)
        if flow is None:
            return  # forgotten here, and FORGET is on its way
        flow.used_at = self._loop.time()
        try:
            try:
                flow.sock.send(data)
            except ConnectionRefusedError:  # what the datagram before met with (ICMP)
                self._watch_again(number, flow)
                flow.sock.send(data)
        except OSError:  # no room, or refused again: UDP may lose
            self._metrics.datagrams_dropped += 1
            return
        self._metrics.datagrams_received += 1
        self.received += len(data)

    def _on_readable(self, number: int) -> None:
        flow = self._flows[number]
        flow.used_at = self._loop.time()
        out: list[bytes] = []
        taken = 0
        for _ in range(BATCH):
            try:
                data = flow.sock.recv(_ROOM)
            except BlockingIOError:
                if not out:
                    self._watch_again(number, flow)
                break
            except OSError:  # nobody listens there (ICMP): perhaps somebody will
                self._metrics.datagrams_dropped += 1
                self._watch_again(number, flow)
                continue
            taken += len(data)
            if len(data) > frames.MAX_DATAGRAM:
                self._metrics.datagrams_dropped += 1
                continue
            self.sent += len(data)
            self._metrics.datagrams_sent += 1
            out.append(frames.encode_datagram(number, data))
            if taken >= BATCH_BYTES:
                break
        if out and self._channel.drained:
            self._channel.write(b"".join(out))
        else:
            for frame in out:
                self._write(frame, datagram=True)

    def _watch_again(self, number: int, flow: _Flow) -> None:
        """Go on reading: libuv (uvloop) reports an error on a socket once and then watches no
        longer, and here it is the error of one datagram."""
        self._loop.remove_reader(flow.sock.fileno())
        self._loop.add_reader(flow.sock.fileno(), self._on_readable, number)

    def _write(self, frame: bytes, *, datagram: bool) -> None:
        if self._channel.drained:
            self._channel.write(frame)
            return
        before = self._queue.dropped
        self._queue.put(frame, datagram=datagram)
        self._metrics.datagrams_dropped += self._queue.dropped - before

    def _forget(self, number: int) -> None:
        flow = self._flows.pop(number, None)
        if flow is not None:
            self._loop.remove_reader(flow.sock.fileno())
            with contextlib.suppress(OSError):
                flow.sock.close()

    def _finish(self, outcome: Outcome, detail: str) -> None:
        if self._resolving is not None:
            self._resolving.cancel()
            self._resolving = None
        for number in list(self._flows):
            self._forget(number)
        self._queue.clear()
        if not self._over:
            self._over = True
            self._on_end(outcome, detail)
