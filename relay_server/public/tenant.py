"""A tenant: one reverse-proxy process with exposures, as the relay knows it.

It has one link of purpose ``exposures``, on which it asks for them; channels for visitors, whose
opener is the relay; and raw links that wait for a visitor each. While the first is lost the tenant
is *away*: what it holds is kept for it, and visitors are refused, or wait if it asked for that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from common.line import Account
from common.outcome import Outcome
from common.switchboard import Caller, Switchboard
from common.wire import Demand, GoAway, Message
from relay_server.metrics import Metrics
from relay_server.pending import PendingLink
from relay_server.public.raw import RawVisitor

WAIT_S: Final = 10.0
"""Seconds a visitor waits for a channel of a tenant that is there: a dial takes one or two."""
TELL_S: Final = 0.01
"""Seconds within which changes of how many visitors wait are told at once, as one."""
LINGER_S: Final = 60.0

Owner = tuple[bytes, bytes]
"""A key (32 bytes) and a process (16 bytes)."""


class Tenant:
    """One reverse-proxy process with exposures.

    Args:
        owner: its key and its process.
        on_message: takes what comes on the exposures link.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, owner: Owner, group: str, metrics: Metrics
    ) -> None:
        self.owner = owner
        self.group = group
        self.control: PendingLink | None = None
        """The exposures link; None while the tenant is away."""
        self.board = Switchboard(
            wait_s=WAIT_S,
            why_none=self._why_none,
            on_wait=self.tell_demand,
            counts=metrics,
        )
        self.account = Account(LINGER_S, self.tell_demand)
        self.raw_links: deque[PendingLink] = deque()
        """Raw links that wait for a visitor, the one that has waited longest first."""
        self.raw_calls: dict[PendingLink, RawVisitor] = {}
        """Raw links that have been told of a visitor and have not answered."""
        self._raw_waiting: dict[RawVisitor, asyncio.TimerHandle] = {}
        self._told = Demand(0, 0)
        self._telling: asyncio.TimerHandle | None = None
        self._loop = loop

    @property
    def present(self) -> bool:
        """Whether the reverse-proxy is there, as far as we know."""
        return self.control is not None

    @property
    def links(self) -> int:
        """Links of all purposes."""
        return (
            len(self.account.lines) + len(self.raw_links) + len(self.raw_calls) + int(self.present)
        )

    def message_links(self) -> list[PendingLink]:
        """Return the links on which control messages run."""
        control = [self.control] if self.control else []
        return [*control, *self.raw_links, *self.raw_calls]

    def send(self, message: Message) -> None:
        """Send on the exposures link, if there is one."""
        if self.control is not None:
            self.control.send(message)

    # Visitors

    def open(self, visitor: Caller, hold_s: float) -> None:
        """Give the visitor a channel, or let it wait; ``hold_s`` is for while we are away."""
        self.board.open(visitor, self._patience(hold_s))

    def open_raw(self, visitor: RawVisitor, hold_s: float) -> None:
        """Give the visitor a raw link, or let it wait; ``hold_s`` is for while we are away."""
        if visitor.gone():
            visitor.fail(Outcome.RESET_BY_SOURCE, "it did not wait")
        elif self.raw_links:
            self._call(self.raw_links.popleft(), visitor)
        else:
            left_s = visitor.accepted_at + self._patience(hold_s) - self._loop.time()
            self._raw_waiting[visitor] = self._loop.call_later(
                max(left_s, 0), self._give_up_raw, visitor
            )
            self.tell_demand()

    def add_raw(self, link: PendingLink) -> None:
        """Take over a raw link that is welcome."""
        while self._raw_waiting:
            visitor, deadline = next(iter(self._raw_waiting.items()))
            del self._raw_waiting[visitor]
            deadline.cancel()
            if not visitor.gone():
                self._call(link, visitor)
                break
            visitor.fail(Outcome.RESET_BY_SOURCE, "it did not wait")
        else:
            self.raw_links.append(link)
        self.tell_demand()

    def release(self, which: Callable[[Caller | RawVisitor], bool]) -> list[Caller | RawVisitor]:
        """Forget the visitors that wait and are meant, and return them."""
        found: list[Caller | RawVisitor] = list(self.board.release(which))
        for visitor in [each for each in self._raw_waiting if which(each)]:
            self._raw_waiting.pop(visitor).cancel()
            found.append(visitor)
        return found

    def forget_raw(self, link: PendingLink) -> RawVisitor | None:
        """Strike a raw link from the account; return the visitor it was told of, if any."""
        if link in self.raw_links:
            self.raw_links.remove(link)
        return self.raw_calls.pop(link, None)

    def _call(self, link: PendingLink, visitor: RawVisitor) -> None:
        self.raw_calls[link] = visitor
        visitor.call(link)

    def _patience(self, hold_s: float) -> float:
        return WAIT_S if self.present else hold_s

    def _give_up_raw(self, visitor: RawVisitor) -> None:
        del self._raw_waiting[visitor]
        visitor.fail(Outcome.NO_CHANNEL, self._why_none())
        self.tell_demand()

    def _why_none(self) -> str:
        if self.present:
            return "its reverse-proxy has no channel left; see --max-channels there"
        return "its reverse-proxy is away"

    # What the reverse-proxy is told

    def tell_demand(self) -> None:
        """Tell the reverse-proxy soon how many visitors wait, if that has changed."""
        if self._telling is None and self.present:
            self._telling = self._loop.call_later(TELL_S, self._tell)

    def _tell(self) -> None:
        self._telling = None
        demand = Demand(self.board.waiting, len(self._raw_waiting))
        if demand != self._told:
            self._told = demand
            self.send(demand)

    # The end

    def came(self, control: PendingLink) -> None:
        """Note that the reverse-proxy is there (again)."""
        self.control = control
        self._told = Demand(0, 0)
        self.tell_demand()

    def left(self) -> None:
        """Note that the exposures link is lost."""
        self.control = None
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None

    def tick(self) -> None:
        """Look after channels, and after visitors that wait; call once every heartbeat."""
        for line in list(self.account.lines):
            line.channel.tick()
        left = self.release(lambda visitor: visitor.gone())
        for visitor in left:
            visitor.fail(Outcome.RESET_BY_SOURCE, "it did not wait")
        if left:
            self.tell_demand()

    def stop(self) -> None:
        """Drain: visitors that wait are told now; idle links are closed."""
        self.board.stop()
        for line in list(self.account.lines):
            self.board.retire(line)
        for visitor in list(self._raw_waiting):
            self._raw_waiting.pop(visitor).cancel()
            visitor.fail(Outcome.STOPPED, "the relay ends")
        self.send(GoAway())
        for link in [*self.raw_links, *([self.control] if self.control else [])]:
            link.lose("the relay ends")

    def abort(self, reason: str) -> None:
        """End everything now."""
        self.board.abort([self.account])
        for link in self.message_links():
            link.lose(reason)
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
