"""A stream: one local TCP connection carried by a channel, the same code at both ends.

``local`` is the source's connection at the entry-point and the destination's at the
reverse-proxy. Each direction ends on its own (FIN is a half-close, passed on as one); when both
have ended the channel goes back to its owner: at the acceptor, which says DONE, it is idle again,
and at the opener as soon as it has heard that. Everything else, a RST, a lost
channel, a surprise, resets the local connection and ends the channel: nothing that was cut short
may look complete.

Only one of "reading from A" and "waiting to write to B" is ever active in a direction, so at most
one buffer of a stream is in user space.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, Literal

from common import frames
from common.channel import SILENT_HEARTBEATS, Channel
from common.fairness import FAIRNESS, SHORT
from common.outcome import Outcome
from common.scratch import scratch
from common.sockets import check_soon, close_cleanly, close_with_reset, is_dead, was_reset

CHUNK_SIZE: Final = 256 * 1024 - frames.HEADER_SIZE
"""Bytes read from a local connection at once, and the largest DATA frame sent: with its header it
fills sixteen TLS records and no more."""

_FIN: Final = frames.encode(frames.FIN)
_DONE: Final = frames.encode(frames.DONE)
_RESET: Final = frames.encode(frames.RESET)
_DATA_WORD: Final = frames.DATA << 24
_HEADER_SIZE: Final = frames.HEADER_SIZE

# Room for an OPEN frame, a DATA header and a chunk; all streams share it (see common.channel).
_buffer: Final = scratch(_HEADER_SIZE + frames.MAX_CONTROL + CHUNK_SIZE + _HEADER_SIZE)
_payload: Final = _buffer[_HEADER_SIZE : _HEADER_SIZE + CHUNK_SIZE]
_SHORT_CHUNK: Final = SHORT - _HEADER_SIZE

LocalName = Literal["source", "destination"]


_RESET_BY: Final[dict[str, Outcome]] = {
    "source": Outcome.RESET_BY_SOURCE,
    "destination": Outcome.RESET_BY_DESTINATION,
}
_OTHER: Final[dict[str, LocalName]] = {"source": "destination", "destination": "source"}


class Stream:
    """Joins ``local`` and ``channel`` until the stream ends; then ``on_end`` is called, once.

    Args:
        local: connected and non-blocking, and ends with a RST if this process is killed (see
            :func:`common.sockets.end_with_reset`); the stream owns it.
        local_name: which end of the stream ``local`` leads to.
        on_end: called with the stream; ``outcome`` and ``detail`` say how it ended, and
            ``channel.closed`` whether the channel can serve another one.
        heartbeat_s: as the channel's; a dead local connection is noticed in three of them.
    """

    __slots__ = (
        "_fd",
        "_fin_received",
        "_fin_sent",
        "_heartbeat_s",
        "_local_name",
        "_loop",
        "_on_end",
        "_reading",
        "channel",
        "detail",
        "local",
        "outcome",
        "received",
        "sent",
        "started_at",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        channel: Channel,
        local: socket.socket,
        local_name: LocalName,
        on_end: Callable[[Stream], None],
        heartbeat_s: float,
    ) -> None:
        self.channel = channel
        self.local = local
        self.outcome: Outcome | None = None
        self.detail = ""
        self.sent = 0  # bytes from local to the channel
        self.received = 0  # bytes from the channel to local
        self.started_at = loop.time()
        self._loop = loop
        self._fd = local.fileno()
        self._local_name = local_name
        self._on_end = on_end
        self._heartbeat_s = heartbeat_s
        self._fin_sent = False
        self._fin_received = False
        self._reading = False
        channel.handler = self

    def begin(self, preface: bytes = b"") -> None:
        """Start reading ``local``; send ``preface`` (frames) and what is there already as one."""
        size = len(preface)
        if preface:
            _buffer[:size] = preface
            try:
                count = self.local.recv_into(_buffer[size + _HEADER_SIZE :], CHUNK_SIZE)
            except BlockingIOError:
                count = 0
            except OSError as error:
                self._fail_local(error)
                return
            if count:
                frames.HEADER.pack_into(_buffer, size, _DATA_WORD | count)
                self.sent += count
                size += _HEADER_SIZE + count
            if not self.channel.write(_buffer[:size]):
                return  # on_drained starts the reading
        self._read_on()

    def stop(self, outcome: Outcome, detail: str) -> None:
        """End the stream at once, if it has not ended: reset both sides."""
        self._end(outcome, detail, abort=True)

    # What the channel reports

    def on_data(self, data: memoryview) -> int:
        """Pass bytes on to the local connection."""
        if self._fin_received:
            raise frames.not_allowed(frames.DATA, "after FIN")
        try:
            count = self.local.send(data)
        except BlockingIOError:
            count = 0
        except OSError as error:
            self._fail_local(error)
            return len(data)
        self.received += count
        if count < len(data):
            self._loop.add_writer(self._fd, self._on_local_writable)
        return count

    def on_frame(self, kind: int, payload: bytes) -> None:
        """Follow the other side's FIN, RESET or REFUSED."""
        if kind == frames.FIN and not self._fin_received:
            self._fin_received = True
            if self._fin_sent:  # closing says FIN as well
                if self._local_name == "destination":
                    self.channel.write(_DONE)
                self._end(Outcome.FINISHED, "")
                return
            try:
                self.local.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._fail_local(error)
        elif kind == frames.RESET:
            self.channel.close()
            self._end(_RESET_BY[_OTHER[self._local_name]], "")
        elif kind == frames.REFUSED and self._local_name == "source" and not self._fin_received:
            refused = frames.decode_refused(payload)
            if not self._fin_sent:
                self.channel.write(_FIN)
            self._end(Outcome.REFUSED, f"{refused.code}: {refused.detail}")
        elif kind not in (frames.PONG, frames.GOAWAY):
            raise frames.not_allowed(kind, "within a stream")

    def on_drained(self) -> None:
        """Read on from the local connection."""
        self._read_on()

    def on_lost(self, reason: str) -> None:
        """Reset the local connection: what it got may be incomplete."""
        self._end(Outcome.LOST, reason)

    def on_tick(self) -> None:
        """Notice a local connection that died while nobody reads from it."""
        if not self._reading and is_dead(self.local, SILENT_HEARTBEATS * self._heartbeat_s):
            self._fail_local(ConnectionResetError("the connection is dead"))

    # What the local connection reports

    def _on_local_readable(self) -> None:
        try:
            count = self.local.recv_into(_payload, _SHORT_CHUNK if FAIRNESS.short_turns else 0)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail_local(error)
            return
        if count:
            self.channel.share.took(count)
            self.sent += count
            frames.HEADER.pack_into(_buffer, 0, _DATA_WORD | count)
            if not self.channel.write(_buffer[: _HEADER_SIZE + count]):
                self._stop_reading()
            else:
                check_soon(self._loop, self._recheck)
            return
        self._stop_reading()
        self._fin_sent = True
        if not self._fin_received:
            self.channel.write(_FIN)
        else:
            self.channel.write(_FIN + _DONE if self._local_name == "destination" else _FIN)
            self._end(Outcome.FINISHED, "")

    def _recheck(self) -> None:
        """Read on if the connection was reset behind our back; see ``common.sockets``."""
        if self._reading and was_reset(self.local):
            self._on_local_readable()
            self._loop.call_soon(self._recheck)  # until all is read

    def _on_local_writable(self) -> None:
        self._loop.remove_writer(self._fd)
        self.channel.resume()

    def _read_on(self) -> None:
        if not self._reading and not self._fin_sent and self.outcome is None:
            self._reading = True
            self._loop.add_reader(self._fd, self._on_local_readable)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def _stop_local(self) -> None:
        self._stop_reading()
        self._loop.remove_writer(self._fd)

    # The ends

    def _fail_local(self, error: OSError) -> None:
        self._end(_RESET_BY[self._local_name], error.strerror or str(error), abort=True)

    def _end(self, outcome: Outcome, detail: str, *, abort: bool = False) -> None:
        """Let go of both sides; ``abort`` sends RESET, if a frame still goes."""
        if self.outcome is not None:
            return
        self.outcome, self.detail = outcome, detail
        self._stop_local()
        if outcome is Outcome.FINISHED:
            close_cleanly(self.local)
        else:
            close_with_reset(self.local)
        if abort and not self.channel.closed:
            if self.channel.drained and self.channel.write(_RESET):
                self.channel.close()
            else:
                self.channel.abort()
        on_end, self._on_end = self._on_end, _nobody  # whose it was may refer to us
        on_end(self)


def _nobody(stream: Stream) -> None:
    """Be told that a stream has ended when everybody has been told."""
