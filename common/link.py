"""A client's link to the relay, from the dial to the hand-over.

One link is one coroutine chain::

    link = await login(...)      # TCP, outer TLS, HELLO, WELCOME
    paired = await link.wait()   # PING and PONG until the relay finds a partner, or a visitor
    sock = await link.hand_over()  # READY; the raw socket, ready for the inner session

or, for a channel of visitors, ``link.session()`` instead of the last two. Whoever holds a
:class:`Link` closes it, unless one of these has returned its socket.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio

from common import __version__
from common.addresses import HostPort
from common.errors import DeniedError, HandshakeError, LinkLost, ProtocolError
from common.keys import PublicKey
from common.link_states import LinkState, State
from common.message_io import MessageStream
from common.relay_address import connect
from common.session import Session
from common.sockets import end_with_reset
from common.tls import handshake, wrap
from common.wire import (
    ALPN,
    VERSION,
    Declined,
    Denied,
    GoAway,
    Hello,
    Message,
    Paired,
    Ping,
    Pong,
    Purpose,
    Ready,
    Role,
    Visit,
    Welcome,
    sentence,
    trust_messages,
)

LOGIN_DEADLINE_S = 10.0
"""Seconds for TCP, TLS and the relay's verdict together."""
LONGEST_HEARTBEAT_S = 60.0
"""The longest heartbeat that a client takes from a relay: NATs forget after a few minutes."""
SHORTEST_HEARTBEAT_S = 0.01
"""The shortest: a relay may not have us do nothing else."""
SILENT_HEARTBEATS = 3
"""Heartbeats without a sign of life after which a link is dead."""


@dataclass(frozen=True)
class Client:
    """Who this program is to its relays, and whom it accepts as a partner.

    Args:
        key: the public half of the identity that ``context`` shows.
        instance: 16 random bytes, the same on all links of the process.
        partners: returns the raw keys (32 bytes each) of acceptable partners; asked for each link.
        accepts: whether a raw key is one of them; asked for each pair.
    """

    role: Role
    group: str
    key: PublicKey
    instance: bytes
    context: ssl.SSLContext
    partners: Callable[[], list[bytes]] = field(repr=False)
    accepts: Callable[[bytes], bool] = field(repr=False)


class Link:
    """An authenticated link that waits for its partner. Closed by its holder.

    Args:
        tls: handshake done; a ``Session`` if channel frames will follow in it.
        purpose: as in HELLO.
        on_goaway: told that the relay is about to end.
    """

    def __init__(
        self,
        tls: ssl.SSLSocket | Session,
        on_goaway: Callable[[], None],
        purpose: Purpose = "pair",
    ) -> None:
        self._tls = tls
        self._purpose = purpose
        self._state = LinkState()
        self._messages = MessageStream(tls)
        self._on_goaway = on_goaway
        self._heartbeat_s = 0.0
        self._ping_at = 0.0  # when the next PING is due, on the loop's clock
        self._silent = 0  # heartbeats since the relay was heard

    @property
    def heartbeat_s(self) -> float:
        """Seconds between two signs of life, as the relay wants them."""
        return self._heartbeat_s

    async def greet(self, client: Client) -> None:
        """Say who is there and take the relay's verdict.

        Raises:
            DeniedError: the relay says no, and why.
            LinkLost: the connection ended without a verdict.
            ProtocolError: the relay said something else.
        """
        hello = Hello(
            [VERSION], client.role, client.group, client.instance, __version__, self._purpose
        )
        # Partners matter for pairs only.
        partners = client.partners() if self._purpose == "pair" else []
        greeting: list[Message] = [*trust_messages(partners), hello]
        for message in greeting:
            self._state.advance(message)
        await self._messages.send(*greeting)
        verdict = await self._receive()
        if isinstance(verdict, Denied):
            raise DeniedError(verdict.code, verdict.detail)
        if not isinstance(verdict, Welcome) or verdict.version != VERSION:
            raise ProtocolError(f"the relay chose version {getattr(verdict, 'version', '?')}")
        # A relay may not put off the detection of dead channels and expired keys for ever.
        heartbeat_s = max(verdict.heartbeat_s, SHORTEST_HEARTBEAT_S)
        self._heartbeat_s = min(heartbeat_s, LONGEST_HEARTBEAT_S)
        self._ping_at = anyio.current_time() + self._heartbeat_s

    async def wait(self) -> Paired | Visit:
        """Wait until the relay has found a partner, or a visitor; tell it that we live.

        Raises:
            LinkLost: the connection ended, or the relay fell silent for three heartbeats.
            DeniedError: the relay takes its welcome back (a key expired, say).
            ProtocolError: the relay said something that is not allowed.
        """
        while True:
            message = await self.next()
            if isinstance(message, Paired | Visit):
                return message
            raise ProtocolError(f"{type(message).__name__.upper()} from the relay")

    async def next(self) -> Message:
        """Return the next message that is not about the link itself; tell the relay that we live.

        Raises:
            LinkLost: the connection ended, or the relay fell silent for three heartbeats.
            DeniedError: the relay takes its welcome back (a key expired, say).
            ProtocolError: the relay said something that is not allowed.
        """
        while True:
            message = None
            # A PING every heartbeat, whatever the relay says in the meantime: it counts ours.
            with anyio.CancelScope(deadline=self._ping_at):
                message = await self._receive()
            if message is None:
                self._ping_at = anyio.current_time() + self._heartbeat_s
                self._silent += 1
                if self._silent >= SILENT_HEARTBEATS:
                    silent_s = self._silent * self._heartbeat_s
                    raise LinkLost(f"the relay was silent for {silent_s:g} s")
                await self._send(Ping())
                continue
            self._silent = 0
            match message:
                case GoAway():
                    self._on_goaway()
                case Denied():
                    raise DeniedError(message.code, message.detail)
                case Pong():
                    pass
                case _:
                    return message

    async def send(self, message: Message) -> None:
        """Send a message that the link's state allows.

        Raises:
            LinkLost: the connection ended.
        """
        await self._send(message)

    async def decline(self, code: str, detail: str) -> None:
        """Say that the visitor is not served, this link's last bytes; the caller closes it.

        Raises:
            LinkLost: the connection ended.
        """
        await self._send(Declined(code, sentence(detail)))

    def session(self) -> Session:
        """Return the session in which channel frames follow; it is the caller's.

        Raises:
            ProtocolError: the relay did not wait for its turn.
        """
        assert isinstance(self._tls, Session)  # noqa: S101 - see login
        # Frames in records of their own may be here already; their bytes wait in the session.
        if self._tls.decrypted or not self._messages.between_messages:
            raise ProtocolError("the relay sent more with WELCOME")
        return self._tls

    async def hand_over(self) -> ssl.SSLSocket:
        """Say READY, this link's last outer bytes, and return the session to be dropped.

        Raises:
            LinkLost: the connection ended.
            ProtocolError: the relay sent more after its last word.
        """
        assert isinstance(self._tls, ssl.SSLSocket)  # noqa: S101 - see login
        if self._purpose == "raw":  # a FIN would pass for the destination's from now on
            end_with_reset(self._tls)
        await self._send(Ready())
        if not self._messages.clean:
            raise ProtocolError("the relay sent more after its last word")
        assert self._state.state is State.HANDED_OVER  # noqa: S101 - the table says so
        return self._tls

    def close(self) -> None:
        """Close the connection; the relay sees its end at once."""
        self._tls.close()

    async def _send(self, message: Message) -> None:
        self._state.advance(message)
        await self._messages.send(message)

    async def _receive(self) -> Message:
        message = await self._messages.receive()
        self._state.advance(message)
        return message


async def login(
    relay: HostPort, client: Client, on_goaway: Callable[[], None], purpose: Purpose = "pair"
) -> Link:
    """Dial the relay and return an authenticated link that is welcome.

    Raises:
        LinkLost: the relay cannot be reached, or took longer than ``LOGIN_DEADLINE_S``.
        HandshakeError: TLS could not be agreed; the message names cause and next step.
        DeniedError: the relay refused the key; the message is the relay's.
        ProtocolError: what answers is not a relay of this suite.
    """
    try:
        with anyio.fail_after(LOGIN_DEADLINE_S):
            sock = await connect(relay)
            tls: ssl.SSLSocket | Session
            if purpose == "visitors":
                tls = Session(client.context, sock, server=False, name=relay.host)
            else:
                tls = wrap(client.context, sock, server=False, name=relay.host)
            try:
                await handshake(tls, ALPN)
                link = Link(tls, on_goaway, purpose)
                await link.greet(client)
            except BaseException:
                tls.close()
                raise
    except TimeoutError:
        raise LinkLost(f"{relay} did not answer within {LOGIN_DEADLINE_S:g} s") from None
    except HandshakeError as error:
        raise HandshakeError(f"{error}; {_advice(str(error), relay)}") from None
    return link


def _advice(reason: str, relay: HostPort) -> str:
    """Return the next step for a handshake that failed for ``reason``."""
    if "certificate has expired" in reason:
        return "make a new one on the relay: gen-cert x509 --force"
    if "not yet valid" in reason:
        return "this machine's clock is wrong, or the relay's was when its certificate was made"
    if "mismatch" in reason:
        return f"the certificate is not for {relay.host}: gen-cert x509 --dns or --ip"
    if "certificate verify failed" in reason:
        return (
            f"{relay} does not show the certificate in --server-cert; copy server.crt from the "
            "relay, and if it is the same already, somebody else answers there"
        )
    return f"is {relay} a relay-server of this suite?"
