"""Control messages on a TLS session: the awaiting half of ``common.wire``."""

from __future__ import annotations

import ssl
from typing import Protocol

import anyio
import anyio.lowlevel

from common.errors import LinkLost
from common.wire import Message, MessageReader, encode


class Session(Protocol):
    """What messages need of a TLS session: an ``SSLSocket``'s part."""

    def fileno(self) -> int:
        """Return the socket's descriptor."""

    def pending(self) -> int:
        """Return how many bytes have been decrypted and not received yet."""

    def recv(self, buflen: int, /) -> bytes:
        """Return what is there, or raise what ``SSLSocket.recv`` raises."""

    def send(self, data: memoryview, /) -> int:
        """Return how much was sent, or raise what ``SSLSocket.send`` raises."""


class MessageStream:
    """Sends and receives control messages; deadlines and closing are the caller's.

    Receiving may be cancelled between two bytes: what has been read is kept for the next call.
    """

    def __init__(self, tls: Session) -> None:
        self._tls = tls
        self._reader = MessageReader()
        self._sending = anyio.Lock()

    @property
    def between_messages(self) -> bool:
        """Whether no message is half read."""
        return self._reader.empty

    @property
    def clean(self) -> bool:
        """Whether nothing was read beyond the last message: the raw socket may be handed over."""
        return self._reader.empty and not self._tls.pending()

    async def send(self, *messages: Message) -> None:
        """Send the messages in one go; several tasks may send at the same time.

        Raises:
            LinkLost: the connection ended.
        """
        data = memoryview(b"".join(map(encode, messages)))
        async with self._sending:
            while data:
                try:
                    data = data[self._tls.send(data) :]
                except ssl.SSLWantWriteError:
                    await anyio.wait_writable(self._tls)
                except OSError as error:
                    raise LinkLost(f"the connection ended: {error.strerror or error}") from None

    async def receive(self) -> Message:
        """Return the next message; others have their turn before each, however fast they come.

        Raises:
            LinkLost: the connection ended.
            ProtocolError: what came is not a message.
        """
        # Without this a peer that never stops talking would keep the loop, and with it the clock
        # of every deadline, to itself.
        await anyio.lowlevel.checkpoint()
        while True:
            try:
                data = self._tls.recv(self._reader.need)
            except ssl.SSLWantReadError:
                await anyio.wait_readable(self._tls)
                continue
            except OSError as error:
                reason = getattr(error, "reason", None) or error.strerror or error
                raise LinkLost(f"the connection ended: {reason}") from None
            if not data:
                raise LinkLost("the other side ended the connection")
            message = self._reader.feed(data)
            if message is not None:
                return message
