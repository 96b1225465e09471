"""A link at the relay while control messages run on it: it answers PING and hands on the rest.

Callbacks instead of a task: a relay may hold thousands of them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import Final, Protocol

from common.addresses import HostPort
from common.errors import ProtocolError
from common.keys import PublicKey
from common.link_states import State
from common.logs import event
from common.wire import Declined, Expose, Message, MessageReader, Ping, Pong, Ready, encode
from relay_server.login import Admitted
from relay_server.matchmaker import Party

log = logging.getLogger(__name__)

MESSAGES_AT_ONCE: Final = 16
"""Messages of one client before the loop turns to others: a PING a heartbeat is all there is, and
an EXPOSE for each exposure, once."""


class Owner(Protocol):
    """Who is told what becomes of a link."""

    def on_message(self, link: PendingLink, message: Message) -> None:
        """Act on a message, PING aside, that the link's state allows.

        READY is the last one: the client has said its last outer word.
        """

    def on_lost(self, link: PendingLink, reason: str) -> None:
        """Forget the link: it has ended and is closed."""


class PendingLink:
    """One admitted link until it ends, or its raw socket is handed over.

    Args:
        admitted: the session; the link owns it.
        address: where the client is.
    """

    __slots__ = (
        "_fd",
        "_loop",
        "_owner",
        "_reader",
        "_state",
        "_tls",
        "address",
        "closed",
        "heard_at",
        "party",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        admitted: Admitted,
        address: HostPort,
        owner: Owner,
    ) -> None:
        self.address = address
        self.party: Party = admitted.party
        self.closed = False
        self.heard_at = loop.time()
        self._loop = loop
        self._owner = owner
        self._tls = admitted.tls
        self._fd = self._tls.fileno()
        self._state = admitted.state
        self._reader = MessageReader()
        loop.add_reader(self._fd, self._on_readable)

    @property
    def paired(self) -> bool:
        """Whether the link has been told of a partner, or of a visitor: our last word."""
        return self._state.state in (State.PAIRED, State.VISITED, State.HANDED_OVER)

    def send(self, message: Message) -> bool:
        """Send a message; return False if the link is lost (its owner has been told).

        A client whose kernel does not take a few bytes has not read for long: it is lost.
        """
        if self.closed:
            return False
        self._state.advance(message)
        try:
            self._tls.send(encode(message))
        except OSError as error:
            self.lose(f"writing failed: {error.strerror or error}")
            return False
        return True

    def end_with_reset(self) -> None:
        """Make a RST of whatever closes the connection from now on, ``kill -9`` included."""
        self._tls.end_with_reset()

    def hand_over(self) -> socket.socket:
        """Drop the outer session and return the raw socket, which is the caller's."""
        self._forget()
        return self._tls.unwrap()

    def close(self) -> None:
        """Close the connection without a word; the owner is not told. May be called twice."""
        if not self.closed:
            self._forget()
            self._tls.close()

    def _forget(self) -> None:
        self.closed = True
        self._loop.remove_reader(self._fd)

    def lose(self, reason: str) -> None:
        """Close the connection and tell the owner. May be called twice."""
        if not self.closed:
            self.close()
            self._owner.on_lost(self, reason)

    def _on_readable(self) -> None:
        turns = MESSAGES_AT_ONCE
        try:
            # After READY the next record on the socket is the partner's: not one byte further.
            while not self.closed and self._state.state is not State.HANDED_OVER:
                data = self._tls.recv(self._reader.need)
                if not data:
                    self.lose("the client ended the connection")
                    return
                message = self._reader.feed(data)
                if message is None:
                    continue
                self._take(message)
                turns -= 1
                if not turns:
                    # What OpenSSL has decrypted already does not make the socket readable.
                    if not self.closed and self._tls.pending():
                        self._loop.call_soon(self._on_readable)
                    return
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except ProtocolError as error:
            event(
                log,
                logging.WARNING,
                "link ended for a protocol error",
                budget_key="link protocol error",
                client=str(self.address),
                key=PublicKey(self.party.key).fingerprint,
                reason=str(error),
            )
            self.lose(f"protocol error: {error}")
        except OSError as error:
            reason = getattr(error, "reason", None) or error.strerror or error
            self.lose(f"reading failed: {reason}")

    def _take(self, message: Message) -> None:
        self._state.advance(message)
        self.heard_at = self._loop.time()
        match message:
            case Ping() if not self.paired:
                self.send(Pong())
            case Ping():
                pass  # it crossed our PAIRED, which was our last word
            case Ready():
                # Nothing may follow READY inside the outer session; what follows on the socket
                # belongs to the partner and has not been touched.
                if self._tls.pending():
                    raise ProtocolError("bytes after READY")
                self._loop.remove_reader(self._fd)
                self._owner.on_message(self, message)
            case Expose() | Declined():
                self._owner.on_message(self, message)
            case _:
                raise ProtocolError(f"{type(message).__name__.upper()} from a client")
