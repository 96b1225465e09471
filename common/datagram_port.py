"""A UDP port whose datagrams go through a channel: the opener's end, one for each port.

On the first datagram the port asks for a channel, like any other caller, and carries all its flows
on it. When no flow is left it ends the stream, and the channel is used again. A channel that is
lost takes the flows with it; the next datagram asks for another one.

Replies go to the flow's own source only, for the far end names a flow and never an address.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final, Protocol

from common import frames
from common.addresses import HostPort, normalise_ip
from common.channel import Channel
from common.datagram_queue import DatagramQueue
from common.flow_table import FlowTable
from common.logs import event
from common.outcome import Outcome
from common.switchboard import Caller
from common.udp_replies import Peer, Replies

log = logging.getLogger(__name__)

BATCH: Final = 64
"""Datagrams taken at once before the loop turns to others."""
BATCH_BYTES: Final = 256 * 1024
"""Bytes after which no further datagram is taken at once."""
AGAIN_S: Final = 1.0
"""Seconds until a channel is asked for again after a refusal or a loss."""
SWEEP_S: Final = 1.0

_FIN: Final = frames.encode(frames.FIN)
_RESET: Final = frames.encode(frames.RESET)
_ROOM: Final = frames.MAX_DATAGRAM + 1


class Counts(Protocol):
    """What datagram ports count."""

    flows_opened: int
    flows_evicted: int
    datagrams_sent: int
    datagrams_received: int
    datagrams_dropped: int


class DatagramPort:
    """One bound UDP socket; it owns it, and is a caller and the handler of its channel.

    Args:
        sock: bound and non-blocking.
        admits: whether datagrams from an address are taken.
        ask: returns the OPEN or VISIT frame.
        open_channel: gives a caller a channel.
        idle_s: seconds after which a flow without datagrams is over.
        name: what the port is called in the log.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        *,
        admits: Callable[[str], bool],
        ask: Callable[[], bytes],
        open_channel: Callable[[Caller], None],
        idle_s: float,
        counts: Counts,
        name: str,
    ) -> None:
        self.accepted_at = loop.time()
        self._loop = loop
        self._sock = sock
        self._admits = admits
        self._ask = ask
        self._open_channel = open_channel
        self._idle_s = idle_s
        self._counts = counts
        self._name = name
        self._replies = Replies(sock)
        self._flows: FlowTable[Peer] = FlowTable()
        self._queue = DatagramQueue()
        self._channel: Channel | None = None
        self._on_end: Callable[[], None] | None = None
        self._asking = False
        self._not_before = 0.0  # when a channel may be asked for again
        self._fin_sent = False
        self._closed = False
        self._sweeping: asyncio.TimerHandle | None = None
        loop.add_reader(sock.fileno(), self._on_readable)

    @property
    def address(self) -> HostPort:
        """Where it listens."""
        host, port = self._sock.getsockname()[:2]
        return HostPort(normalise_ip(host), port)

    @property
    def flows(self) -> int:
        """Flows there are."""
        return len(self._flows)

    def close(self) -> None:
        """Let go of the port and end the stream. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._end_stream()

    # From the sources

    def _on_readable(self) -> None:
        if self._flows.worn_out:
            self._end_stream()  # the next one counts anew
        out: list[bytes] = []
        now = self._loop.time()
        taken = 0
        for _ in range(BATCH):
            try:
                data, source = self._replies.receive(_ROOM)
            except BlockingIOError:
                break
            except OSError:  # an ICMP error of an earlier reply; the next datagram may be fine
                continue
            taken += len(data)
            self._take(data, source, now, out)
            if taken >= BATCH_BYTES:
                break
        if not out:
            return
        if self._channel is None or self._fin_sent:
            for frame in out:
                self._keep(frame)
            self._want_channel(now)
        elif not self._channel.drained:
            for frame in out:
                self._keep(frame)
        else:
            self._channel.write(b"".join(out))

    def _take(self, data: bytes, source: Peer, now: float, out: list[bytes]) -> None:
        if (
            len(data) > frames.MAX_DATAGRAM
            or (source not in self._flows and self._queue.crowded)
            or not self._admits(normalise_ip(source[0][0]))
        ):
            self._counts.datagrams_dropped += 1
            return
        number, new, evicted = self._flows.number(source, now)
        if evicted:
            self._counts.flows_evicted += 1
            out.append(frames.encode_forget(evicted))
        if new:
            self._counts.flows_opened += 1
            out.append(_flow(number, source))
            self._sweep_later()
        self._counts.datagrams_sent += 1
        out.append(frames.encode_datagram(number, data))

    def _keep(self, frame: bytes) -> None:
        before = self._queue.dropped
        self._queue.put(frame, datagram=frame[0] == frames.DATAGRAM)
        self._counts.datagrams_dropped += self._queue.dropped - before

    def _want_channel(self, now: float) -> None:
        if self._asking or self._channel is not None or self._closed or now < self._not_before:
            return
        self._asking = True
        self.accepted_at = now
        self._open_channel(self)

    def _sweep_later(self) -> None:
        if self._sweeping is None and not self._closed:
            self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """Forget idle flows; with the last of them the stream ends."""
        self._sweeping = None
        now = self._loop.time()
        over = self._flows.expire(now, self._idle_s)
        if self._channel is not None and not self._fin_sent:
            for number in over:
                self._keep(frames.encode_forget(number))
            if self._channel.drained:
                self._flush()
        elif len(self._queue):
            self._want_channel(now)
        if not self._flows:
            self._end_stream()
        else:
            self._sweep_later()

    # A caller

    def request(self) -> bytes:
        """Return the frame that asks for the destination."""
        return self._ask()

    def gone(self) -> bool:
        """Whether the port has been closed."""
        return self._closed

    def begin(
        self,
        channel: Channel,
        preface: bytes,
        heartbeat_s: float,  # noqa: ARG002 - a Caller
        on_end: Callable[[], None],
    ) -> None:
        """Take the channel over: tell of the flows there are, and send what waits."""
        self._asking = False
        self._channel, self._on_end = channel, on_end
        self._fin_sent = False
        channel.handler = self
        channel.write(preface + self._queue.take())
        if self._closed or not self._flows:
            self._end_stream()

    def fail(self, outcome: Outcome, detail: str) -> None:
        """Note that there is no channel: what waits is lost."""
        self._asking = False
        self._forget(outcome, detail)

    def stop(self, outcome: Outcome, detail: str) -> None:
        """End at once."""
        channel = self._channel
        if channel is not None and not channel.closed:
            if channel.drained and channel.write(_RESET):
                channel.close()
            else:
                channel.abort()
        self._over(outcome, detail)

    # What the channel reports

    def on_data(self, data: memoryview) -> int:  # noqa: ARG002 - a Handler
        """Refuse bytes without boundaries."""
        raise frames.not_allowed(frames.DATA, "in a stream of datagrams")

    def on_frame(self, kind: int, payload: bytes) -> None:
        """Pass replies on; follow FORGET, FIN, RESET and REFUSED."""
        if kind == frames.DATAGRAM:
            self._reply(frames.flow_id(payload), memoryview(payload)[frames.FLOW_ID.size :])
        elif kind == frames.FORGET:
            number = frames.flow_id(payload)
            if not self._fin_sent:
                self._flows.remove(number)
        elif kind == frames.GOAWAY:
            self._end_stream()  # flows that never rest would hold the far end up
        elif kind == frames.FIN:
            if self._fin_sent:
                self._over(Outcome.FINISHED, "")
            else:
                self._say_fin()
                self._over(Outcome.LOST, "the far end has ended the stream")
        elif kind == frames.RESET:
            assert self._channel is not None  # noqa: S101 - it has just spoken
            self._channel.close()
            self._over(Outcome.RESET_BY_DESTINATION, "the far end has ended the stream")
        elif kind == frames.REFUSED:
            refused = frames.decode_refused(payload)
            if not self._fin_sent:
                self._say_fin()
            self._over(Outcome.REFUSED, f"{refused.code}: {refused.detail}")
        elif kind != frames.PONG:
            raise frames.not_allowed(kind, "in a stream of datagrams")

    def on_drained(self) -> None:
        """Send what waits."""
        self._flush()

    def on_lost(self, reason: str) -> None:
        """Forget the flows: the far end has."""
        self._over(Outcome.LOST, reason)

    def on_tick(self) -> None:
        """Flows have a sweep of their own."""

    def _reply(self, number: int, data: memoryview) -> None:
        if self._fin_sent or self._closed:
            return  # of a flow that is over; the numbers of the next stream may be in use already
        source = self._flows.use(number, self._loop.time())
        if source is None:
            return  # it has just been forgotten
        try:
            self._replies.send(data, source)
            self._counts.datagrams_received += 1
        except OSError:  # no room in the kernel, or no way there: UDP may lose
            self._counts.datagrams_dropped += 1

    def _flush(self) -> None:
        if len(self._queue) and self._channel is not None and not self._fin_sent:
            self._channel.write(self._queue.take())

    # The ends

    def _say_fin(self) -> None:
        self._fin_sent = True
        if self._channel is not None:
            self._channel.write(_FIN)

    def _end_stream(self) -> None:
        if self._channel is not None and not self._fin_sent:
            self._flows.clear()
            self._queue.clear()
            self._say_fin()

    def _over(self, outcome: Outcome, detail: str) -> None:
        """Give the channel back, if it has not ended."""
        on_end, self._on_end = self._on_end, None
        self._channel = None
        self._fin_sent = False
        if outcome is not Outcome.FINISHED:
            self._forget(outcome, detail)
        elif len(self._queue):  # datagrams came while the stream ended
            self._renew()
        if on_end is not None:
            on_end()

    def _renew(self) -> None:
        """Ask for another channel for the flows that have come in the meantime."""
        self._loop.call_soon(self._want_channel, self._loop.time())

    def _forget(self, outcome: Outcome, detail: str) -> None:
        self._flows.clear()
        self._queue.clear()
        self._not_before = self._loop.time() + AGAIN_S
        if not self._closed:
            event(
                log,
                logging.WARNING,
                "datagrams are lost",
                budget_key=f"datagrams are lost {self._name}",
                port=self._name,
                outcome=outcome.value,
                reason=detail or None,
            )


def _flow(number: int, source: Peer) -> bytes:
    host, port = source[0][:2]
    return frames.encode_flow(frames.Flow(number, normalise_ip(host), port))
