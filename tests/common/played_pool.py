"""The channels, the callers and the clock of a pool, played: real ones would take their time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any, cast

from common import frames
from common.line import Line
from common.outcome import Outcome

PING = frames.encode(frames.PING)


class Timer:
    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """The part of a loop that is used; time stands still between the steps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.numbers = count()
        self.timers: list[tuple[float, int, Timer]] = []
        self.soon: list[Callable[[], object]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[..., object], *arguments: Any) -> Timer:
        timer = Timer(lambda: call(*arguments))
        heapq.heappush(self.timers, (self.now + delay, next(self.numbers), timer))
        return timer

    def call_soon(self, call: Callable[..., object], *arguments: Any) -> None:
        self.soon.append(lambda: call(*arguments))

    def turn(self) -> None:
        while self.soon:
            self.soon.pop(0)()

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        self.turn()
        while self.timers and self.timers[0][0] <= end:
            at, _, timer = heapq.heappop(self.timers)
            self.now = max(self.now, at)
            if not timer.cancelled:
                timer.call()
            self.turn()
        self.now = end


class FakeChannel:
    def __init__(self, loop: Clock, session: object, handler: Any, heartbeat_s: float) -> None:
        self.handler = handler
        self.heard_at = loop.now
        self.closed = self.retired = self.broken = False
        self.written: list[bytes] = []

    def write(self, data: bytes) -> bool:
        if self.closed:
            return False
        if self.broken:
            self.lose("writing failed")
            return False
        self.written.append(bytes(data))
        return True

    def ping(self) -> None:
        self.write(PING)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def lose(self, reason: str) -> None:
        if not self.closed:
            self.closed = True
            self.handler.on_lost(reason)


class FakeCaller:
    """A caller; as the handler of its channel, its stream."""

    def __init__(self, number: int, clock: Clock, wait_s: float) -> None:
        self.number = number
        self.accepted_at = clock.now
        self.deadline = clock.now + wait_s
        self.queued_at = 0
        self.hung_up = self.cancelled = False
        self.events: list[str] = []
        self.outcome: Outcome | None = None
        self.channel: FakeChannel | None = None
        self.on_end: Callable[[], None] | None = None

    def request(self) -> bytes:
        return b"request %d" % self.number

    def gone(self) -> bool:
        return self.hung_up

    def begin(
        self, channel: Any, preface: bytes, heartbeat_s: float, on_end: Callable[[], None]
    ) -> None:
        assert not self.events
        assert not channel.closed
        self.events.append("began")
        self.channel, self.on_end = channel, on_end
        channel.handler = self
        if preface:
            assert preface == self.request()
            channel.write(preface)
        else:  # the channel was silent for a while: asked, and the answer has come
            assert channel.written[-2:] == [PING, self.request()]

    def fail(self, outcome: Outcome, detail: str) -> None:
        assert not self.events
        assert detail
        self.events.append("failed")
        self.outcome = outcome

    def stop(self, outcome: Outcome, detail: str) -> None:
        assert outcome is Outcome.STOPPED
        assert self.channel is not None
        self.channel.abort()
        self.end()

    def on_lost(self, reason: str) -> None:
        self.end()

    def end(self) -> None:
        assert self.events == ["began"]
        self.events.append("ended")
        assert self.on_end is not None
        self.on_end()

    @property
    def streaming(self) -> bool:
        return self.events == ["began"]


def fake(line: Line) -> FakeChannel:
    return cast("FakeChannel", line.channel)
