"""The public side of a relay in this process; tenants are links that a test speaks for.

What goes over a tenant's links is kept as messages, so no TLS is needed; channels are real.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from unittest.mock import patch

from common.addresses import HostPort
from common.fairness import Share
from common.forwarding import CopyForwarder, OnEnd
from common.joined import Joined
from common.key_options import KeyOptions
from common.keys import PublicKey
from common.sockets import listen
from common.trusted_keys import TrustedKey
from common.wire import VERSION, Expose, Exposed, Hello, Message, Purpose, Role, Unexposed, Visit
from relay_server.clients import Clients
from relay_server.login import Admitted
from relay_server.matchmaker import Party
from relay_server.metrics import Metrics
from relay_server.public import side as side_module
from relay_server.public.door import Services
from relay_server.public.side import PublicConfig, PublicSide
from relay_server.public.tenant import Owner, Tenant
from tests.common.loops import run
from tests.common.sessions import session_pair
from tests.relay_server.ends import Service, Visitor
from tests.relay_server.owners import KEYS

HEARTBEAT_S = 1.0


class FakeLink:
    """A tenant's link: keeps what it is told, is lost when a test says so."""

    dead = False
    """Whether the next link is lost as soon as it is written to."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        admitted: Admitted,
        address: HostPort,
        owner: PublicSide,
    ) -> None:
        self.party, self.address = admitted.party, address
        self.told: list[Message] = []
        self.closed = self.paired = False
        self.heard_at = loop.time()
        self.sock: socket.socket | None = None
        self._dead = FakeLink.dead
        self._owner = owner

    def send(self, message: Message) -> bool:
        if self.closed:
            return False
        if self._dead:
            self.lose("writing failed")
            return False
        self.told.append(message)
        self.paired |= isinstance(message, Visit)
        return True

    def end_with_reset(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def lose(self, reason: str) -> None:
        if not self.closed:
            self.closed = True
            self._owner.on_lost(self, reason)  # type: ignore[arg-type]

    def hand_over(self) -> socket.socket:
        self.closed = True
        assert self.sock is not None
        return self.sock

    def answers(self) -> list[Exposed | Unexposed]:
        """Return what was answered since the last call."""
        found = [each for each in self.told if isinstance(each, Exposed | Unexposed)]
        self.told = [each for each in self.told if each not in found]
        return found


class Stage:
    """A public side, its keys, and what tests need of both ends."""

    def __init__(self, config: PublicConfig) -> None:
        self.loop = asyncio.get_running_loop()
        self.metrics = Metrics()
        self.keys = {key.raw: trust(key) for key in KEYS}
        self.clients = Clients()
        self.public = PublicSide(
            config,
            trusted=self.keys.get,
            clients=self.clients,
            heartbeat_s=HEARTBEAT_S,
            make_forwarder=self._make_forwarder,
            metrics=self.metrics,
        )
        self.public.guide.accept_client = self._no_client
        self._services: list[Service] = []
        self._visitors: list[socket.socket] = []

    def _make_forwarder(
        self, source: socket.socket, sink: socket.socket, share: Share, on_end: OnEnd
    ) -> CopyForwarder:
        return CopyForwarder(self.loop, source, sink, share, on_end, self.metrics)

    @staticmethod
    def _no_client(sock: socket.socket, address: HostPort) -> None:
        sock.close()

    # Tenants

    def verdict(
        self, owner: Owner, purpose: Purpose = "exposures", role: Role = "reverse-proxy"
    ) -> str:
        """Return the code of the refusal of a link; empty if it may come in."""
        hello = Hello([VERSION], role, "0", owner[1], "", purpose)
        refusal = self.public.judge(owner[0], hello)
        return refusal.code if refusal else ""

    def link(self, owner: Owner, purpose: Purpose = "exposures") -> FakeLink:
        """Bring in a link that was judged."""
        assert not self.verdict(owner, purpose)
        party = Party("reverse-proxy", "0", owner[0], owner[1], frozenset())
        admitted = Admitted(None, None, party, "", purpose)  # type: ignore[arg-type]
        made: list[FakeLink] = []

        def make(*args: object) -> FakeLink:
            made.append(FakeLink(*args))  # type: ignore[arg-type]
            return made[0]

        with patch.object(side_module, "PendingLink", make):
            self.public.welcome(admitted, HostPort("192.0.2.1", 5000), 1)
        return made[0]

    def says(self, link: FakeLink, *messages: Message) -> list[Exposed | Unexposed]:
        """Let a link say something, and return the answers to what it asks for."""
        for message in messages:
            self.public.on_message(link, message)  # type: ignore[arg-type]
        return link.answers()

    def expose(self, link: FakeLink, number: int = 1, **options: float) -> HostPort:
        """Expose a free port and return it."""
        asked = Expose(
            number,
            "tcp",
            "",
            int(options.get("port", 0)),
            raw=bool(options.get("raw")),
            hold_s=options.get("hold_s", 0.0),
        )
        (answer,) = self.says(link, asked)
        assert isinstance(answer, Exposed), answer
        return HostPort("127.0.0.1", answer.port)

    def tenant(self, owner: Owner) -> Tenant:
        return self.public._tenants[owner]

    async def channel(self, owner: Owner) -> Service:
        """Give a tenant one more channel and return the service at its other end."""
        one, other = await session_pair()
        tenant = self.tenant(owner)
        tenant.board.add(tenant.account, Joined(one, owner[0], owner[1], HEARTBEAT_S))
        self._services.append(Service(other))
        return self._services[-1]

    # Visitors

    def visitor(self, port: HostPort, words: bytes = b"", source: str = "127.0.0.1") -> Visitor:
        sock = socket.socket()
        self._visitors.append(sock)
        sock.bind((source, 0))
        sock.connect((port.host, port.port))
        sock.setblocking(False)
        if words:
            sock.send(words)
        return Visitor(sock)

    def http(self) -> HostPort:
        """Open a door for host names."""
        return self.public.ports.stand("127.0.0.1", 0, Services(http=True))

    def close(self) -> None:
        self.public.stop()
        self.public.abort("the test is over")
        for sock in self._visitors:
            sock.close()
        for service in self._services:
            service.channel.close()


def trust(key: PublicKey, options: KeyOptions | None = None) -> TrustedKey:
    return TrustedKey(key, options or KeyOptions(), "keys.txt", 1)


def is_free(port: HostPort) -> bool:
    """Whether nobody listens there any more."""
    try:
        listen(port.host, port.port).close()
    except Exception:  # noqa: BLE001 - whatever it is, it is not free
        return False
    return True


def played(
    kind: str, play: Callable[[Stage], Awaitable[None]], config: PublicConfig | None = None
) -> None:
    async def main() -> None:
        stage = Stage(config or PublicConfig(host="127.0.0.1", reserve_s=60.0))
        try:
            await play(stage)
        finally:
            stage.close()

    run(kind, main)
