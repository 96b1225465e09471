"""A channel: a TLS session, the frames in it, and its liveness.

This is the hot path, so it is callbacks on the loop and one system call per batch of records:

* One shared buffer is read into, whole records at a time; DATA goes to the handler as a slice of
  it. Only what the handler cannot take is copied, and then nothing more is read: TCP's own
  back-pressure is the flow control.
* A write goes to the socket at once. What the kernel does not take is kept, and the writer is told
  to wait for :meth:`Handler.on_drained`; control frames queue up behind it, in order.

Invariants:

* Every read decrypts all that was received, so nothing waits in OpenSSL and a level-triggered loop
  is enough.
* While ``paused`` nothing is read; what was read already waits in ``_stash`` (at most one buffer).
* Of what was read at once, ``FRAMES_AT_ONCE`` frames are delivered before the loop turns to others
  (``_deferred`` meanwhile), and PINGs are answered once: one peer cannot keep the loop to itself.
* The ``handler`` is told exactly once that the channel is lost, and nothing after that.

Liveness: both sides send PING every heartbeat, whatever else they send or hear, unless bytes of
theirs wait for the kernel already; three heartbeats of silence end the channel. Who only receives a
long transfer hears enough, but the sender does not, and its own PING would wait behind all the data
on the way; and whoever skips a PING for something just sent is silent for two heartbeats. A side
that does not read, because its own consumer stalls, cannot judge by silence: it asks the kernel
about its own leg. When it reads again, the other side has as long as the stall was, besides: what
was dropped for want of room is sent again after a time that doubles, and a sign of life waits
behind it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from typing import Final, Protocol

from common import frames
from common.errors import ProtocolError
from common.fairness import FAIRNESS, Share
from common.keys import PublicKey
from common.logs import event
from common.scratch import scratch
from common.session import PLAINTEXT_SIZE, Session
from common.sockets import check_soon, close_with_reset, is_dead, was_reset

FRAMES_AT_ONCE: Final = 512
"""Frames of one channel before the loop turns to others; a stream at full speed has 20 in a read,
and 512 of one byte each take 2 ms."""
SILENT_HEARTBEATS: Final = 3
"""Heartbeats after which a silent channel is dead; a PING asks after the first full one."""

_BROKEN: Final = "protocol error: "
LONGEST_RETRY_S: Final = 120.0
"""The longest time between two attempts of TCP to send the same data (Linux: TCP_RTO_MAX)."""

_PING: Final = frames.encode(frames.PING)
_PONG: Final = frames.encode(frames.PONG)

# One loop per process and never two reads at once: all channels share one buffer.
_buffer: Final = scratch(PLAINTEXT_SIZE)


class Handler(Protocol):
    """Who a channel serves at the moment: a stream, or a pool while it is idle."""

    def on_data(self, data: memoryview) -> int:
        """Take bytes of the stream; return how many. Fewer than all pauses the channel."""

    def on_frame(self, kind: int, payload: bytes) -> None:
        """Handle a frame other than DATA and PING.

        Raises:
            ProtocolError: the frame is not allowed now; the channel is closed.
        """

    def on_drained(self) -> None:
        """Go on writing: all that was written has reached the kernel."""

    def on_lost(self, reason: str) -> None:
        """Let go of the channel: it has ended and is closed."""

    def on_tick(self) -> None:
        """Look after what the handler owns, once every heartbeat."""


class Channel:
    """One inner session on its socket; closed by :meth:`close`, :meth:`abort` or its loss.

    Args:
        session: handshake done; the channel owns it.
        handler: may be replaced between two frames.
        heartbeat_s: seconds between two calls of :meth:`tick`, which the owner makes.
    """

    __slots__ = (
        "_deferred",
        "_draining",
        "_fd",
        "_heard",
        "_heartbeat_s",
        "_loop",
        "_pong_owed",
        "_reader",
        "_session",
        "_silent",
        "_stash",
        "_watched",
        "closed",
        "handler",
        "heard_at",
        "paused",
        "retired",
        "share",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        session: Session,
        handler: Handler,
        heartbeat_s: float,
    ) -> None:
        self.handler = handler
        self.closed = False
        self.paused = False
        self.retired = False
        """Whether the acceptor has asked for no further stream."""
        self.heard_at = loop.time()
        self.share = Share()
        """Of the loop; the stream on this channel has the same."""
        self._loop = loop
        self._session = session
        self._fd = session.fileno()
        self._heartbeat_s = heartbeat_s
        self._heard = True
        self._silent = 0
        self._reader = frames.FrameReader()
        self._stash = b""
        self._deferred = False
        self._draining = False  # the kernel has not taken all that was written
        self._pong_owed = False
        self._watched = True  # the loop has our reader
        loop.add_reader(self._fd, self._on_readable)
        if session.pending():
            loop.call_soon(self._on_readable)

    @property
    def drained(self) -> bool:
        """Whether all that was written has reached the kernel."""
        return not self._draining

    def write(self, data: bytes | memoryview) -> bool:
        """Send whole frames; return whether the kernel has taken them all.

        False means: the channel keeps the rest, or is lost. DATA must then wait for
        ``on_drained``; other frames may still be written.
        """
        if self.closed:
            return False
        try:
            if self._session.write(data):
                return True
        except OSError as error:
            self._lost(f"writing failed: {_words(error)}")
            return False
        if not self._draining:
            self._draining = True
            self._loop.add_writer(self._fd, self._on_writable)
        return False

    def pause(self) -> None:
        """Stop reading; the peer is slowed by TCP."""
        # The loop keeps the reader until there is something to read: a pause is often over by then.
        self.paused = True

    def resume(self) -> None:
        """Read on, beginning with what was read before the pause."""
        if not self.paused or self.closed:
            return
        self.paused = False
        if not self._deferred:
            self._read_on()

    def ping(self) -> None:
        """Ask for a sign of life; ``on_frame(PONG)`` follows if there is one."""
        self.write(_PING)

    def tick(self) -> None:
        """Judge the channel's liveness; call once every heartbeat."""
        if self.closed:
            return
        if self.paused:
            most = math.ceil(LONGEST_RETRY_S / self._heartbeat_s)
            self._silent = 0 if self._heard else max(min(self._silent, 0) - 1, -most)
            if is_dead(self._session.sock, SILENT_HEARTBEATS * self._heartbeat_s):
                self._lost("the connection to the relay is dead")
                return
        elif self._heard:
            self._silent = 0
        else:
            self._silent += 1
            # The first heartbeat is the one it was last heard in, so this one is the third.
            if self._silent >= SILENT_HEARTBEATS - 1:
                self._lost(f"silent for {self._loop.time() - self.heard_at:.1f} s")
                return
        if not self._draining:
            self.ping()
        self._heard = False
        if not self.closed:
            self.handler.on_tick()

    def lose(self, reason: str) -> None:
        """End the channel with a RST and tell the handler, as if the network had failed."""
        self._lost(reason)

    def close(self) -> None:
        """End the channel after what the kernel already has; the handler is not called again."""
        if not self.closed:
            self._forget()
            self._session.close()

    def abort(self) -> None:
        """End the channel with a RST; the handler is not called again."""
        if not self.closed:
            self._forget()
            close_with_reset(self._session.sock)

    def _forget(self) -> None:
        self.closed = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._session.release()
        self._stash = b""

    def _lost(self, reason: str) -> None:
        if not self.closed:
            self.abort()
            self.handler.on_lost(reason)

    def _on_readable(self) -> None:
        if self.closed:
            return
        if self.paused:
            self._watched = False
            self._loop.remove_reader(self._fd)
            return
        session = self._session
        count = session.read(_buffer, short=FAIRNESS.short_turns > 0)
        if session.stirred:  # on a slow path a record can take longer than three heartbeats
            session.stirred = False
            self._heard = True
        if count:
            self._heard = True
            self.heard_at = self._loop.time()
            if count > frames.HEADER_SIZE:  # for a PING or PONG nobody waits
                self.share.took(count)
            self._deliver(_buffer[:count])
        if session.ended and not (self.paused or self.closed or self._deferred):
            self._lost(_ending(session.ended))
        else:
            check_soon(self._loop, self._recheck)

    def _recheck(self) -> None:
        """Read on if the connection was reset behind our back; see ``common.sockets``."""
        if not (self.closed or self.paused or self._deferred) and was_reset(self._session.sock):
            self._on_readable()
            self._loop.call_soon(self._recheck)  # until all is read

    def _read_on(self) -> None:
        """Go on with what has been read, then with what comes."""
        self._deferred = False
        if self.paused or self.closed:
            return
        if self._stash:
            stash, self._stash = memoryview(self._stash), b""
            self._deliver(stash)
        if self.paused or self.closed or self._deferred:
            return
        if self._session.ended:
            self._lost(_ending(self._session.ended))
        elif self._watched:
            check_soon(self._loop, self._recheck)
        else:
            self._watched = True
            self._loop.add_reader(self._fd, self._on_readable)

    def _defer(self) -> None:
        """Let the loop turn to others before the rest is delivered."""
        self._deferred = True
        self._watched = False
        self._loop.remove_reader(self._fd)
        self._loop.call_soon(self._read_on)

    def _deliver(self, view: memoryview) -> None:
        """Hand the frames in ``view`` to the handler; keep what it cannot take yet."""
        try:
            self._hand_out(view)
        except ProtocolError as error:
            self._lost(f"{_BROKEN}{error}")
        if self._pong_owed:
            self._answer()

    def _hand_out(self, view: memoryview) -> None:
        reader = self._reader
        position, end = 0, len(view)
        turns = FRAMES_AT_ONCE
        while position < end:
            kind, payload, position = reader.next(view, position)
            if kind == frames.DATA:
                taken = self.handler.on_data(payload)  # type: ignore[arg-type]
                rest = len(payload) - taken
                if rest and not self.closed:
                    reader.put_back(rest)
                    position -= rest
                    self.pause()
            elif kind == frames.PING:
                self._pong_owed = True
            elif kind:
                if self._pong_owed and kind != frames.PONG:
                    self._answer()  # in order: the PONG goes before what the frame brings about
                    if self.closed:
                        return
                if kind == frames.GOAWAY:
                    self.retired = True
                self.handler.on_frame(kind, payload)  # type: ignore[arg-type]
            if self.closed:
                return
            turns -= 1
            if self.paused or (not turns and position < end):
                self._stash = bytes(view[position:])
                if not self.paused:
                    self._defer()
                return

    def _answer(self) -> None:
        # A peer that pings without reading our answers gets one answer, not a queue of them.
        if not self._draining and not self.closed:
            self._pong_owed = False
            self.write(_PONG)

    def _on_writable(self) -> None:
        try:
            if not self._session.flush():
                return
        except OSError as error:
            self._lost(f"writing failed: {_words(error)}")
            return
        self._draining = False
        self._loop.remove_writer(self._fd)
        if self._pong_owed:
            self._pong_owed = False
            if not self.write(_PONG):
                return
        self.handler.on_drained()


def _ending(ended: OSError | str) -> str:
    return ended if isinstance(ended, str) else f"reading failed: {_words(ended)}"


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return error.strerror or str(error)


def log_idle_loss(log: logging.Logger, partner: bytes, reason: str) -> None:
    """Tell that a channel without a stream was lost; loudly if the partner (a key) broke rules.

    At a channel of visitors the partner is the relay, and there is no key.
    """
    broken = reason.startswith(_BROKEN)
    event(
        log,
        logging.WARNING if broken else logging.DEBUG,
        "channel closed",
        budget_key="channel protocol error" if broken else None,
        partner=PublicKey(partner).fingerprint if partner else "the relay",
        reason=reason,
    )


def lose_untrusted(log: logging.Logger, channel: Channel, partner: bytes) -> None:
    """End a channel, its stream included, because its partner's key has expired or was removed."""
    reason = "the partner's key is no longer trusted"
    event(
        log,
        logging.WARNING,
        "channel closed",
        budget_key="channel of a key that is no longer trusted",
        partner=PublicKey(partner).fingerprint,
        reason=reason,
    )
    channel.lose(reason)
