"""Asks one relay to make services public, and keeps them so.

One link, of purpose ``exposures``, holds them all: when it is lost the relay keeps ports and names
for a while, and the next link takes them over. What the relay refuses is asked for again now and
then, for a port may become free and a permission may be granted; what another process of the same
key has taken over is not, or the two would take it from each other for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

import anyio

from common.addresses import HostPort
from common.backoff import Backoff
from common.errors import PeerError, ProtocolError
from common.exposure_grammar import Exposure
from common.link import Client, Link, login
from common.log_budget import LogBudget
from common.logs import event
from common.wire import Demand, Expose, Exposed, Unexposed

log = logging.getLogger(__name__)

RETRY_S: Final = 15.0
"""Seconds until an exposure that was refused is asked for again."""
LINES_AT_ONCE: Final = 64
"""Lines about exposures that are all told, in ten seconds; two for each where there are more."""
TAKEN_OVER: Final = "taken-over"
"""The code of an exposure that another process of the same key holds now."""


class Exposer:
    """Keeps the exposures of one reverse-proxy at one relay.

    Args:
        relay: where to dial.
        client: who we are.
        exposures: what to make public, by the number that names it at the relay.
        hold_s: seconds that visitors wait while we are away.
        on_change: told that something has become public, or is no longer, or is needed.
    """

    def __init__(
        self,
        relay: HostPort,
        client: Client,
        exposures: Mapping[int, Exposure],
        hold_s: float,
        backoff: Backoff,
        on_change: Callable[[], None],
    ) -> None:
        self.relay = relay
        self.public: dict[int, str] = {}
        """What is public now, in the relay's words, by number."""
        self.waiting = Demand(0, 0)
        """How many visitors wait for a link of ours."""
        self.answered = anyio.Event()
        """Set when the relay has answered for each exposure once."""
        self.first_login = anyio.Event()
        self.heartbeat_s = 10.0
        """Seconds between two signs of life, as the relay said last."""
        self.trouble = ""
        """Why the relay cannot be reached; empty while it can."""
        self._client = client
        self._exposures = exposures
        self._hold_s = hold_s
        self._backoff = backoff
        self._on_change = on_change
        self._ports: dict[int, int] = {}  # that the relay chose: to be asked for again
        self._refused: dict[int, str] = {}  # codes
        self._lines = LogBudget(max(LINES_AT_ONCE, 2 * len(exposures)))
        self._told: dict[int, str] = {}  # the code that was logged last

    async def run(self) -> None:
        """Keep the exposures until cancelled."""
        while True:
            try:
                await self._hold()
            except PeerError as error:
                if str(error) != self.trouble:
                    event(
                        log,
                        logging.WARNING,
                        "exposures are away",
                        relay=str(self.relay),
                        reason=str(error),
                    )
                self.trouble = str(error)
            self.public.clear()
            self.waiting = Demand(0, 0)
            self._on_change()
            await anyio.sleep(self._backoff.next_delay())

    async def _hold(self) -> None:
        link = await login(self.relay, self._client, lambda: None, "exposures")
        try:
            self.heartbeat_s = link.heartbeat_s
            self.first_login.set()
            self.trouble = ""
            self._backoff.reset()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._ask, link)
                await self._listen(link)
        except* PeerError as group:
            raise group.exceptions[0] from None
        finally:
            link.close()

    async def _ask(self, link: Link) -> None:
        """Ask for all that is not another's by now, and again for what is refused."""
        wanted = [each for each in self._exposures if self._refused.get(each) != TAKEN_OVER]
        while True:
            for number in wanted:
                await link.send(self._request(number))
            await anyio.sleep(RETRY_S)
            wanted = [each for each, code in self._refused.items() if code != TAKEN_OVER]

    def _request(self, number: int) -> Expose:
        exposure = self._exposures[number]
        return Expose(
            id=number,
            kind=exposure.kind,
            host=exposure.name,
            port=exposure.port or self._ports.get(number, 0),
            source="" if exposure.source is None else str(exposure.source),
            raw=exposure.raw,
            hold_s=self._hold_s,
            host_header=exposure.host_header,
        )

    async def _listen(self, link: Link) -> None:
        while True:
            match message := await link.next():
                case Exposed():
                    self._note_public(message)
                case Unexposed():
                    self._note_refused(message)
                case Demand():
                    self.waiting = message
                case _:
                    raise ProtocolError(f"{type(message).__name__.upper()} from the relay")
            if len(self.public) + len(self._refused) >= len(self._exposures):
                self.answered.set()
            self._on_change()

    def _note_public(self, message: Exposed) -> None:
        exposure = self._exposure(message.id)
        self._refused.pop(message.id, None)
        self._told.pop(message.id, None)
        if exposure.port == 0:
            self._ports[message.id] = message.port
        # A relay that listens on all addresses does not know by which it is known.
        host, colon, port = message.public.partition(":")
        words = f"{self.relay.host}:{port}" if colon and not host else message.public
        if self.public.get(message.id) == words:
            return
        self.public[message.id] = words
        event(
            log,
            logging.INFO,
            "exposed",
            budget_key=self._budget_key("exposed"),
            relay=str(self.relay),
            public=words,
            destination=str(HostPort(exposure.host, exposure.target_port)),
        )

    def _note_refused(self, message: Unexposed) -> None:
        exposure = self._exposure(message.id)
        self.public.pop(message.id, None)
        self._refused[message.id] = message.code
        self._ports.pop(message.id, None)  # the next free one will do
        if self._told.get(message.id) == message.code:
            return
        self._told[message.id] = message.code
        event(
            log,
            logging.ERROR,
            "not exposed",
            budget_key=self._budget_key("not exposed"),
            relay=str(self.relay),
            exposure=str(exposure),
            code=message.code,
            reason=message.detail,
        )

    def _budget_key(self, what: str) -> str | None:
        """Sum up what a relay says that changes its mind all the time."""
        return None if self._lines.admit(what, anyio.current_time()) else what

    def _exposure(self, number: int) -> Exposure:
        exposure = self._exposures.get(number)
        if exposure is None:
            raise ProtocolError(f"the relay answers for exposure {number}, which was not asked for")
        return exposure
