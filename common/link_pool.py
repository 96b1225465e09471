"""Keeps links of one purpose at one relay, for ever, and has each put to its use.

The owner says how many links it wants; the pool dials what is missing, a bounded number at once.
When the relay cannot be reached, or refuses, one dial at a time tries again after a random,
growing delay; a source that waits shortens the delay to a second. A dial that takes long holds up
no other.

The state of the connection is logged when it changes, not at every try.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Final, Protocol

import anyio

from common.addresses import HostPort
from common.backoff import Backoff
from common.errors import PeerError
from common.link import Client, Link, login
from common.logs import event
from common.wire import Paired, Purpose, Visit

log = logging.getLogger(__name__)

MAX_DIALS: Final = 32
"""Logins under way at once: well below what a relay allows one address (128)."""
URGENT_DELAY_S: Final = 1.0
"""The shortest delay between two tries when a source waits."""
STUCK_S: Final = 3.0
"""Seconds after which a dial does not hold up the next one any more: the address it was begun with
may be dead by now, and it would take the login's whole deadline to find out."""
BAD_JOINS: Final = 8
"""Inner sessions that may fail in a row before the pool slows down: partners come and go, but a
relay that pairs only to fail must not keep us busy."""
TOLD: Final = 64
"""Troubles that are remembered as told; a relay may name its reasons as it likes."""


class Joiner(Protocol):
    """Puts links to their use."""

    purpose: Purpose

    async def join(self, link: Link, call: Paired | Visit | None) -> None:
        """Use the link up; ``call`` is what it waited for (nothing, for a channel of visitors).

        Raises:
            PeerError: nothing came of it; the link is closed.
        """


class LinkPool:
    """The links of one client to one relay, all of one purpose.

    Args:
        relay: where to dial.
        client: who we are.
        joiner: puts the links to their use.
        wanted: returns how many links should be dialled or pending now.
        on_goaway: the relay is about to end.
        urgent: whether a source waits, so that a long delay should not be sat out.
    """

    def __init__(
        self,
        relay: HostPort,
        client: Client,
        joiner: Joiner,
        *,
        wanted: Callable[[], int],
        on_goaway: Callable[[], None],
        urgent: Callable[[], bool],
        backoff: Backoff,
    ) -> None:
        self.relay = relay
        self.links = 0
        """Links that are dialled or pending."""
        self.joining = 0
        """Links that have been called and are being put to use."""
        self.heartbeat_s = 10.0
        """Seconds between two signs of life, as the relay said last."""
        self.logins = 0
        """Logins that succeeded, ever."""
        self.failures = 0
        """Tries that failed, ever."""
        self.first_login = anyio.Event()
        self._client = client
        self._joiner = joiner
        self._wanted = wanted
        self._on_goaway = on_goaway
        self._goaways = 0  # heard, ever
        self._backoff = backoff
        self._dials: list[float] = []  # when those under way began
        self._well_at = -math.inf  # when a relay said welcome last
        self._pending: dict[Link, anyio.CancelScope] = {}
        self.trouble = ""
        """The words of the last try that failed; empty while the relay is well."""
        self._told: set[str] = set()  # the troubles that were logged since the last welcome
        self._bad_joins = 0  # inner sessions that failed since the last that succeeded
        self._changed = anyio.Event()
        self._urgent = urgent
        self._stopped = False

    @property
    def healthy(self) -> bool:
        """Whether the last try to log in succeeded."""
        return not self.trouble

    @property
    def _troubled(self) -> bool:
        return bool(self.trouble) or self._bad_joins > BAD_JOINS

    def poke(self) -> None:
        """Look again at how many links are wanted, and how urgently."""
        self._changed.set()

    def stop(self) -> None:
        """Close what is pending and dial no more; :meth:`run` returns when all is settled."""
        self._stopped = True
        for scope in self._pending.values():
            scope.cancel()
        self._changed.set()

    async def run(self) -> None:
        """Keep the pool until :meth:`stop`, or until cancelled."""
        async with anyio.create_task_group() as tasks:
            while not self._stopped:
                self._changed = anyio.Event()
                lack = self._wanted() - self.links
                allowed = min(lack, MAX_DIALS - len(self._dials))
                careful = lack > 0 and (self._troubled or not self.first_login.is_set())
                if careful:
                    allowed = int(not self._fresh)  # what one link is told, the others would be too
                    if allowed and self._troubled:
                        persists = await self._pause()
                        if not persists or self._wanted() <= self.links:
                            continue
                for _ in range(0 if self._stopped else allowed):
                    self.links += 1
                    self._dials.append(anyio.current_time())
                    tasks.start_soon(self._keep_link, self._dials[-1])
                if lack < 0:
                    self._close_pending(-lack)
                if not self._stopped:
                    more = careful and self._dials and lack > allowed
                    with anyio.CancelScope(
                        deadline=self._dials[-1] + STUCK_S if more else math.inf
                    ):
                        await self._changed.wait()

    @property
    def _fresh(self) -> bool:
        """Whether a dial is under way that may well succeed."""
        return bool(self._dials) and anyio.current_time() < self._dials[-1] + STUCK_S

    async def _pause(self) -> bool:
        """Sit the delay out, or the shortest one if a source waits; return whether trouble is left.

        Once an older dial has got through, all that is wanted can be dialled without a pause.
        """
        urgent_at = anyio.current_time() + URGENT_DELAY_S
        with anyio.move_on_after(self._backoff.next_delay()):
            while self._troubled and not self._stopped:
                deadline = urgent_at if self._urgent() else math.inf
                if anyio.current_time() >= deadline:
                    break
                self._changed = anyio.Event()
                with anyio.CancelScope(deadline=deadline):
                    await self._changed.wait()
        return self._troubled and not self._stopped

    def renew(self) -> None:
        """Dial anew what is pending: the relay knows only the partners of the time of the login."""
        self._close_pending(len(self._pending))

    def _close_pending(self, count: int) -> None:
        # The newest first: a relay calls the oldest, which may be on its way already.
        for scope in list(reversed(self._pending.values()))[:count]:
            scope.cancel()

    async def _keep_link(self, began: float) -> None:
        """See one link through its life: dial, wait, join."""
        try:
            called = await self._wait_for_call(began)
        finally:
            self.links -= 1
            self.poke()  # a link that is called is replaced at once
        if called is None:
            return
        self.joining += 1
        goaways = self._goaways
        try:
            await self._joiner.join(*called)
            self._bad_joins = 0
            self._backoff.reset()
            if self._goaways != goaways:  # the relay said so to another link in the meantime
                self._on_goaway()
        except PeerError as error:
            self.failures += 1
            self._bad_joins += 1
            event(
                log,
                logging.WARNING,
                f"no channel came of a {'pair' if self._joiner.purpose == 'pair' else 'link'}",
                budget_key="bad join",
                relay=str(self.relay),
                reason=str(error),
            )
        finally:
            self.joining -= 1
            self.poke()

    async def _wait_for_call(self, began: float) -> tuple[Link, Paired | Visit | None] | None:
        """Return a link that was called, which is then the caller's, or None if none came of it.

        Args:
            began: the entry of this dial in ``_dials``.
        """
        dialled = True
        purpose = self._joiner.purpose
        try:
            try:
                link = await login(self.relay, self._client, self._hear_goaway, purpose)
            finally:
                self._dials.remove(began)
            dialled = False
            self._succeeded(link)
            if purpose == "visitors" and not self._stopped:
                return link, None
            call: Paired | Visit | None = None
            try:
                with anyio.CancelScope() as scope:
                    self._pending[link] = scope
                    if not self._stopped:
                        call = await link.wait()
            finally:
                del self._pending[link]
                if call is None:
                    link.close()
        except PeerError as error:
            if dialled and began < self._well_at:
                self.failures += 1  # an old story: another dial has found the relay well since
            else:
                self._failed(str(error), dialled=dialled)
            return None
        except Exception as error:  # noqa: BLE001 - one link's defect must not end the program
            self._failed(f"internal error: {error!r}", dialled=dialled)
            return None
        return None if call is None else (link, call)

    def _hear_goaway(self) -> None:
        self._goaways += 1
        self._on_goaway()

    def _succeeded(self, link: Link) -> None:
        self.logins += 1
        self._well_at = anyio.current_time()
        self.heartbeat_s = link.heartbeat_s
        if self.trouble or not self.first_login.is_set():
            self._tell(logging.INFO, "relay connected")
            self.first_login.set()
        self.trouble = ""
        self._told.clear()
        if not self._bad_joins:
            self._backoff.reset()
        self.poke()

    def _failed(self, trouble: str, *, dialled: bool) -> None:
        """Note a failure; tell how the links were lost once, and each reason of a dial once."""
        self.failures += 1
        new = trouble not in self._told if dialled else not self.trouble
        if new and not self._stopped:
            if len(self._told) >= TOLD:
                self._told.clear()
            self._told.add(trouble)
            self._tell(logging.WARNING, "relay trouble", reason=trouble)
        self.trouble = trouble

    def _tell(self, level: int, what: str, reason: str | None = None) -> None:
        """Tell how it goes with the relay; a client that has several pools does so once."""
        if self._joiner.purpose != "pair":
            level = logging.DEBUG
        event(log, level, what, relay=str(self.relay), reason=reason)
