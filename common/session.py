"""A channel's TLS session, run through memory: one system call for a whole batch of records.

OpenSSL on a descriptor makes two ``read`` calls and one ``write`` for every record of 16 KiB. Here
a batch is read with one ``recv`` and decrypted, and encrypted and written with one ``send``; that
is 18 % less CPU per byte. The *outer* session must not do that: what is read ahead of a record may
belong to the partner (see ``common.tls``). A channel's is the last on its socket.

The handshake part looks like an ``SSLSocket``'s, so ``common.tls.handshake`` serves both.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import ClassVar, Final

from common.fairness import SHORT
from common.scratch import scratch

CIPHERTEXT_SIZE: Final = 256 * 1024
"""Bytes of ciphertext read at once. OpenSSL keeps as much per session as was ever read so far."""
RECORD_ROOM: Final = 32 * 1024
"""Room for the record of which a part was read before: it is at most 16 KiB of plaintext."""
PLAINTEXT_SIZE: Final = CIPHERTEXT_SIZE + RECORD_ROOM
"""Bytes that one :meth:`Session.read` can return at most."""
RECORD_OVERHEAD: Final = 22
"""Bytes of a record of TLS 1.3 besides its data (RFC 8446, section 5.2): header, type and tag."""
MOST_EMPTY: Final = 64 * 1024
"""Bytes of records without data that may come at once. A key update (section 4.6.3) has 27 of them
and costs us what 10 KiB of data cost; OpenSSL takes in any number of them in one call."""
EMPTY_PER_S: Final = 16 * 1024
"""How many more with every second: enough for short messages that are padded to 512 bytes."""


class Session:
    """A TLS session over ``sock`` (connected, non-blocking), which it owns.

    Args:
        context: whose session it is (``common.tls``).
        server: whether this side is the TLS server.
        name: what the server is called, for a context that checks it.
    """

    __slots__ = (
        "_accounted_at",
        "_empty",
        "_incoming",
        "_outgoing",
        "_recv_into",
        "_send",
        "_tls",
        "_unsent",
        "ended",
        "sock",
        "stirred",
    )

    # One loop per process and never two reads at once: all sessions of a kind share one buffer.
    _ciphertext: ClassVar[memoryview] = scratch(CIPHERTEXT_SIZE)

    def __init__(
        self,
        context: ssl.SSLContext,
        sock: socket.socket,
        *,
        server: bool,
        name: str | None = None,
    ) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=server, server_hostname=name)
        self._start(tls, incoming, outgoing, sock)

    @classmethod
    def adopt(
        cls,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        sock: socket.socket,
    ) -> Session:
        """Return a session that goes on with one that has been agreed through memory."""
        self = cls.__new__(cls)
        self._start(tls, incoming, outgoing, sock)
        return self

    def _start(
        self,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        sock: socket.socket,
    ) -> None:
        self.sock = sock
        self.ended: OSError | str = ""
        """Why nothing more can be read, once that is so: an error, or words."""
        self.stirred = False
        """Whether anything has come since the owner set it to False; it may be half a record."""
        self._tls, self._incoming, self._outgoing = tls, incoming, outgoing
        self._recv_into = sock.recv_into
        self._send = sock.send
        self._unsent = b""  # ciphertext that the kernel has not taken
        self._empty = 0.0  # bytes received that carried no data
        self._accounted_at = 0.0

    def fileno(self) -> int:
        """Return the socket's descriptor; -1 after :meth:`close`."""
        return self.sock.fileno()

    def close(self) -> None:
        """Close the socket without a word."""
        self.sock.close()

    def release(self) -> None:
        """Free what TLS keeps, up to half a MiB; only the socket is used after this.

        Whoever had the session may be in a cycle of references until the collector comes, which
        knows nothing of OpenSSL's memory and is in no hurry.
        """
        del self._tls, self._incoming, self._outgoing
        self._unsent = b""

    # The handshake

    def do_handshake(self) -> None:
        """Go one step on.

        Raises:
            SSLWantReadError, SSLWantWriteError: call again when the socket is ready for it.
            SSLError: TLS could not be agreed; the alert has been sent.
            OSError: the connection ended.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush_handshake()
                self._receive()
            except ssl.SSLError:
                self._flush_handshake()
                raise
            else:
                self._flush_handshake()
                return

    def selected_alpn_protocol(self) -> str | None:
        """Return the protocol agreed on, as ``SSLSocket`` does."""
        return self._tls.selected_alpn_protocol()

    def getpeercert(self, *, binary_form: bool) -> bytes | None:  # noqa: ARG002 - SSLSocket's
        """Return the peer's certificate (DER), as ``SSLSocket`` does."""
        return self._tls.getpeercert(binary_form=True)

    def _flush_handshake(self) -> None:
        self.write(b"")
        if not self.flush():
            raise ssl.SSLWantWriteError

    def _receive(self) -> None:
        try:
            count = self._recv_into(self._ciphertext)
        except BlockingIOError:
            raise ssl.SSLWantReadError from None
        if not count:
            raise ConnectionResetError("the other side ended the connection")
        self._incoming.write(self._ciphertext[:count])

    # Data

    def pending(self) -> int:
        """Return how many bytes have come that the socket will not tell of any more."""
        return self._incoming.pending + self._tls.pending()

    @property
    def decrypted(self) -> int:
        """Bytes of a record of which the rest has been received: :meth:`recv` takes them first."""
        return self._tls.pending()

    def recv(self, count: int, /) -> bytes:
        """Return at most ``count`` bytes of data, for messages before the frames; none at the end.

        Raises:
            SSLWantReadError: call again when the socket is readable.
            OSError: the connection or the session ended.
        """
        while True:
            try:
                return self._tls.read(count)
            except ssl.SSLWantReadError:
                before = self._incoming.pending
                self._take_in()
                if isinstance(self.ended, OSError):
                    raise self.ended from None
                if self.ended:
                    return b""
                if self._incoming.pending == before:
                    raise

    def send(self, data: bytes | memoryview, /) -> int:
        """Send all of ``data``, what the kernel does not take with the next write."""
        self.write(data)
        return len(data)

    def read(self, buffer: memoryview, *, short: bool = False) -> int:
        """Decrypt what there is into ``buffer`` (of ``PLAINTEXT_SIZE``); return how many bytes.

        0 means that nothing is there yet, or that the session has ended: see :attr:`ended`.
        ``short`` asks the socket for no more than ``SHORT`` bytes (:mod:`common.fairness`).
        """
        count = records = 0
        if self._incoming.pending <= RECORD_ROOM:  # more may have come with the handshake's end
            self._take_in(SHORT if short else 0)
        incoming, read, size = self._incoming, self._tls.read, len(buffer)
        received = incoming.pending
        try:
            while incoming.pending:
                taken: int = read(size - count, buffer[count:])  # type: ignore[assignment]
                if not taken:
                    self.ended = "the other side ended the session"
                    break
                count += taken
                records += 1
        except ssl.SSLWantReadError:
            pass
        except OSError as error:
            self.ended = error
        empty = received - incoming.pending - count - RECORD_OVERHEAD * records
        if empty:
            self._account(empty)
        return count

    def _account(self, empty: int) -> None:
        """Note bytes that carried no data: of a record that is not there whole, which are taken
        back with its rest, or of records without data, of which there may be few."""
        now = time.monotonic()
        if self._empty > 0:
            self._empty = max(0.0, self._empty - (now - self._accounted_at) * EMPTY_PER_S)
        self._accounted_at = now
        self._empty = max(self._empty + empty, -RECORD_ROOM)
        if self._empty > MOST_EMPTY and not self.ended and self._tls.version() == "TLSv1.3":
            self.ended = "too many records without data"

    def _take_in(self, size: int = 0) -> None:
        """Receive at most ``size`` bytes, or (0) as many as the buffer holds."""
        try:
            received = self._recv_into(self._ciphertext, size)
            if received:
                self.stirred = True
                self._incoming.write(self._ciphertext[:received])
            else:
                self.ended = "the other side ended the connection"
        except BlockingIOError:
            pass
        except OSError as error:
            self.ended = error

    def write(self, data: bytes | memoryview) -> bool:
        """Encrypt and send ``data``; return whether the kernel has taken everything.

        What it has not taken is kept: call :meth:`flush` when the socket is writable.

        Raises:
            OSError: the connection or the session has ended.
        """
        sent, size = 0, len(data)
        while sent < size:
            sent += self._tls.write(memoryview(data)[sent:] if sent else data)
        if self._unsent:
            self._unsent += self._outgoing.read()
            return False
        ciphertext = self._outgoing.read()
        if not ciphertext:
            return True
        try:
            taken = self._send(ciphertext)
        except BlockingIOError:
            taken = 0
        if taken == len(ciphertext):
            return True
        self._unsent = ciphertext[taken:]
        return False

    def say_goodbye(self) -> None:
        """Say that no more will come (close_notify, RFC 8446, section 6.1), and half-close."""
        with contextlib.suppress(OSError):
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.unwrap()
            self._send(self._outgoing.read())
            self.sock.shutdown(socket.SHUT_WR)

    def flush(self) -> bool:
        """Send what is left; return whether the kernel has taken everything.

        Raises:
            OSError: the connection has ended.
        """
        if self._unsent:
            try:
                self._unsent = self._unsent[self._send(self._unsent) :]
            except BlockingIOError:
                return False
        return not self._unsent
