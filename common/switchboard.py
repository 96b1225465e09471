"""Gives each caller a channel: one that is ready, or the next that there is.

A *caller* is whoever wants a channel: a source of an entry-point, a visitor of the relay, an HTTP
exchange, the flows of a UDP port. One for which no channel is ready waits, in order, for a bounded
time. Every caller that is handed to :meth:`Switchboard.open` either fails or begins, once, and
one that has begun ends once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import anyio

from common.channel import Channel
from common.idle_lines import IdleLines
from common.joined import Joined
from common.line import Account, Line
from common.logs import event
from common.outcome import Outcome
from common.proof import Proof

log = logging.getLogger(__name__)

FRESH_S: Final = 5.0
"""A channel heard from within so many seconds takes a caller's bytes without a question."""


class Caller(Protocol):
    """Who wants a channel."""

    @property
    def accepted_at(self) -> float:
        """Seconds on the loop's clock: waiting counts from here."""

    def request(self) -> bytes:
        """Return the OPEN or VISIT frame that asks for what the caller wants."""

    def gone(self) -> bool:
        """Whether it has hung up already: then it costs no channel."""

    def begin(
        self, channel: Channel, preface: bytes, heartbeat_s: float, on_end: Callable[[], None]
    ) -> None:
        """Take the channel over and send ``preface`` first; call ``on_end`` once when it is over.

        The channel is then closed, or waits for DONE and is used again.
        """

    def fail(self, outcome: Outcome, detail: str) -> None:
        """Take leave of the client: there is no channel for it."""

    def stop(self, outcome: Outcome, detail: str) -> None:
        """End at once after :meth:`begin`; ``on_end`` is called, if it has not been."""


class Counts(Protocol):
    """What a switchboard counts."""

    proofs_asked: int
    proofs_failed: int
    channels_opened: int
    channels_closed: int


class Switchboard:
    """The channels of an opener, and who waits for one.

    Args:
        wait_s: seconds a caller waits, unless :meth:`open` is told otherwise.
        why_none: says why there is no channel, for those that have waited in vain.
        on_wait: a caller waits: more channels are needed.
    """

    def __init__(
        self,
        *,
        wait_s: float,
        why_none: Callable[[], str],
        on_wait: Callable[[], None],
        counts: Counts,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._wait_s = wait_s
        self._why_none, self._on_wait = why_none, on_wait
        self._counts = counts
        self._idle: IdleLines[Line] = IdleLines()
        self._busy: dict[Caller, Line] = {}
        self._proofs: dict[Proof, tuple[Caller, Line, float]] = {}  # and how long it may wait
        self._waiting: deque[Caller] = deque()
        self._deadlines: dict[Caller, tuple[asyncio.TimerHandle, float]] = {}  # the same
        self._held = 0  # channels that carry a stream, or wait for DONE after one
        self._stopping = False
        self._quiet = anyio.Event()

    @property
    def idle(self) -> int:
        """Channels that are ready."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """Callers that have a channel."""
        return len(self._busy) + len(self._proofs)

    @property
    def waiting(self) -> int:
        """Callers that have none yet."""
        return len(self._waiting)

    def open(self, caller: Caller, wait_s: float | None = None) -> None:
        """Give the caller a channel, now or as soon as there is one."""
        if caller.gone():  # a health check
            caller.fail(Outcome.RESET_BY_SOURCE, "it did not wait")
            return
        if self._stopping:
            caller.fail(Outcome.STOPPED, "the program ends")
            return
        limit_s = self._wait_s if wait_s is None else wait_s
        line = self._idle.take()
        if line is not None:
            self._assign(line, caller, limit_s)
            return
        left_s = caller.accepted_at + limit_s - self.loop.time()
        deadline = self.loop.call_later(max(left_s, 0), self._give_up, caller)
        self._deadlines[caller] = deadline, limit_s
        self._waiting.append(caller)
        self._on_wait()

    def cancel(self, caller: Caller) -> None:
        """Forget a caller that waits and has hung up; nothing of it is called any more."""
        waits = self._deadlines.pop(caller, None)
        if waits is not None:
            waits[0].cancel()
            self._waiting.remove(caller)

    def release(self, which: Callable[[Caller], bool]) -> list[Caller]:
        """Forget the callers that wait and are meant, and return them, in order."""
        found = [each for each in self._waiting if which(each)]
        for caller in found:
            self.cancel(caller)
        return found

    def add(self, account: Account, joined: Joined) -> Line:
        """Take over a new channel."""
        line = Line(self, account, joined)
        account.lines.add(line)
        self._counts.channels_opened += 1
        if self._stopping:
            line.channel.retired = True
        self._use(line)
        return line

    def retire(self, line: Line) -> None:
        """Start no further stream on the channel; close it as soon as it is idle."""
        line.channel.retired = True
        if line in self._idle:
            line.channel.close()
            self.forget(line)

    def forget(self, line: Line) -> None:
        """Strike a channel that has ended from its account."""
        self._idle.discard(line)
        if line in line.account.lines:
            line.account.lines.remove(line)
            self._counts.channels_closed += 1
            line.account.on_change()

    def shrink(self, account: Account, wanted: int) -> None:
        """Close idle channels beyond what was needed lately; ``wanted`` is the need of now."""
        excess = len(account.lines) - account.mark.observe(wanted, self.loop.time())
        for line in [each for each in account.lines if each in self._idle][: max(excess, 0)]:
            self.retire(line)

    def rested(self, line: Line) -> None:
        """Take back the channel of a stream that is over at both ends."""
        line.account.busy -= 1
        self._held -= 1
        self._idle.stream_ended(line.instance)
        self._use(line)
        self._settle()

    # The end

    def stop(self) -> None:
        """Drain: close idle channels; callers that wait are told now."""
        self._stopping = True
        self._settle()
        while self._waiting:
            self._give_up(self._waiting[0])

    async def quiet(self) -> None:
        """Wait, after :meth:`stop`, until every stream is over at both ends."""
        await self._quiet.wait()

    def abort(self, accounts: list[Account]) -> None:
        """End every stream of ``accounts``, which are all there are, now: the grace is over."""
        for caller in list(self._busy):
            caller.stop(Outcome.STOPPED, "the grace is over")
        for proof in list(self._proofs):
            proof.give_up("the grace is over")
        for account in accounts:
            for line in list(account.lines):  # of streams that are over at this end only
                line.channel.lose("the grace is over")

    # A caller's way

    def _use(self, line: Line) -> None:
        """Give an idle channel to the next caller, or to the pool, or close it."""
        if line.channel.closed:
            self.forget(line)
        elif line.channel.retired:
            line.channel.close()
            self.forget(line)
        elif waits := self._next_waiting():
            self._assign(line, *waits)
        else:
            line.channel.handler = line
            self._idle.put(line)

    def _next_waiting(self) -> tuple[Caller, float] | None:
        """Return who has waited longest, and may how long; one that has gone costs no channel."""
        while self._waiting:
            caller = self._waiting.popleft()
            deadline, limit_s = self._deadlines.pop(caller)
            deadline.cancel()
            if not caller.gone():
                return caller, limit_s
            caller.fail(Outcome.RESET_BY_SOURCE, "it did not wait")
        return None

    def _assign(self, line: Line, caller: Caller, limit_s: float) -> None:
        line.account.busy += 1
        self._held += 1
        self._idle.stream_began(line.instance)
        request = caller.request()
        if self.loop.time() - line.channel.heard_at < FRESH_S:
            self._begin(line, caller, request)
        else:
            self._counts.proofs_asked += 1
            proof = Proof(
                self.loop,
                line.channel,
                request,
                on_alive=lambda: self._proven(proof),
                on_dead=lambda reason: self._disproven(proof, reason),
            )
            self._proofs[proof] = caller, line, limit_s
            proof.ask()
        line.account.on_change()

    def _begin(self, line: Line, caller: Caller, request: bytes) -> None:
        self._busy[caller] = line
        caller.begin(line.channel, request, line.heartbeat_s, lambda: self._ended(caller))

    def _proven(self, proof: Proof) -> None:
        caller, line, _ = self._proofs.pop(proof)
        self._begin(line, caller, b"")

    def _disproven(self, proof: Proof, reason: str) -> None:
        caller, line, limit_s = self._proofs.pop(proof)
        self._counts.proofs_failed += 1
        event(log, logging.INFO, "silent channel replaced", reason=reason)
        self.rested(line)
        if self._stopping:
            caller.fail(Outcome.STOPPED, reason)
        else:
            self.open(caller, limit_s)

    def _ended(self, caller: Caller) -> None:
        line = self._busy.pop(caller)
        if line.channel.closed:
            self.rested(line)
        else:
            line.rest()

    def _give_up(self, caller: Caller) -> None:
        """Tell a caller that waited in vain."""
        self._waiting.remove(caller)
        self._deadlines.pop(caller)[0].cancel()
        if self._stopping:
            caller.fail(Outcome.STOPPED, "the program ends")
        else:
            caller.fail(Outcome.NO_CHANNEL, self._why_none())

    def _settle(self) -> None:
        if self._stopping and not self._held:
            self._quiet.set()
