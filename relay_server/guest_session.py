"""The relay's side of a link's TLS session: one record at a time, and no guest keeps the loop.

OpenSSL on a descriptor reads on for as long as what comes is not data. TLS 1.3 has messages of 27
bytes that are none (KeyUpdate, RFC 8446 section 4.6.3), anybody may send them as soon as the
handshake is done, before the key is judged, and reading one costs no less than sending it: a single
stranger at 1.7 MB/s kept a relay in one call of ``SSL_read`` for as long as it liked. Here OpenSSL
runs through memory and is fed one record a turn, so the loop, and every deadline, has its turn
after each, and only ``RECORDS_WITHOUT_DATA`` of them may come in a row.

Invariant: not a byte beyond the record being read is taken from the socket, for after READY the
next one is the partner's.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from typing import Final

from common.errors import ProtocolError
from common.session import Session
from common.sockets import end_with_reset

RECORDS_WITHOUT_DATA: Final = 32
"""In a row, after the handshake. A client of ours sends none; others may change keys at times."""

_HEADER: Final = 5  # of a record: type, version, length (RFC 8446, section 5.1)


class GuestSession:
    """A TLS server session on ``sock`` (connected, non-blocking), which it owns.

    It looks like an ``SSLSocket`` where the relay uses one, with one difference: whatever the
    kernel does not take at once ends the link, since a client that reads leaves room for 4 KiB.
    """

    __slots__ = ("_agreed", "_dry", "_head", "_in", "_left", "_out", "_sock", "_tls")

    def __init__(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._agreed = False
        self._dry = 0  # records since the handshake, or since the last data
        self._head = b""  # of the record being read
        self._left = _HEADER  # bytes of its header, then of the rest, still to come

    def fileno(self) -> int:
        """Return the socket's descriptor; -1 after :meth:`close`."""
        return self._sock.fileno()

    def do_handshake(self) -> None:
        """Go one step on.

        Raises:
            SSLWantReadError: call again when the socket is readable.
            SSLError: TLS could not be agreed; the alert has been sent.
            OSError: the connection ended.
        """
        try:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._take_record()
                self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            raise
        except ssl.SSLError:
            with contextlib.suppress(OSError):  # the alert; what went wrong says more
                self._flush()
            raise
        self._flush()
        self._agreed = True

    def selected_alpn_protocol(self) -> str | None:
        """Return the protocol agreed on."""
        return self._tls.selected_alpn_protocol()

    def getpeercert(self, *, binary_form: bool) -> bytes | None:  # noqa: ARG002 - SSLSocket's
        """Return the peer's certificate (DER)."""
        return self._tls.getpeercert(binary_form=True)

    def pending(self) -> int:
        """Return how many bytes of the last record have not been received yet."""
        return self._tls.pending()

    def recv(self, count: int) -> bytes:
        """Return at most ``count`` bytes of data, all from one record; none at the end.

        Raises:
            SSLWantReadError: call again when the socket is readable, which it may be now.
            ProtocolError: the peer sends records and no data in them.
            OSError: the connection ended, or its bytes are no TLS.
        """
        try:
            return self._read(count)
        except ssl.SSLWantReadError:
            self._take_record()
        try:
            return self._read(count)
        except ssl.SSLEOFError:
            return b""

    def send(self, data: bytes | memoryview) -> int:
        """Send all of ``data`` and return how much that is.

        Raises:
            OSError: the connection ended, or the peer does not read.
        """
        sent = self._tls.write(data)
        self._flush()
        return sent

    def end_with_reset(self) -> None:
        """Make a RST of whatever closes the socket from now on."""
        end_with_reset(self._sock)

    def close(self) -> None:
        """Close the socket without a word."""
        self._sock.close()

    def unwrap(self) -> socket.socket:
        """Drop the session without a word and return the socket, which is the caller's."""
        return self._sock

    def session(self) -> Session:
        """Go on as a channel's session, which is the last on its socket and reads in batches.

        Raises:
            ProtocolError: the client did not wait for its turn.
        """
        if self._tls.pending() or self._in.pending:
            raise ProtocolError("the client sent more with HELLO")
        return Session.adopt(self._tls, self._in, self._out, self._sock)

    def _read(self, count: int) -> bytes:
        data = self._tls.read(count)
        self._dry = 0
        return data

    def _take_record(self) -> None:
        """Hand what has come of one record to OpenSSL, its header first.

        OpenSSL sees bad bytes for what they are at the header and need not wait for the rest.
        """
        for _ in range(2):  # the header, and the rest
            try:
                data = self._sock.recv(self._left)
            except BlockingIOError:
                return
            if not data:
                self._in.write_eof()
                return
            self._in.write(data)
            self._left -= len(data)
            if len(self._head) < _HEADER:
                self._head += data
                if self._left:
                    return
                self._left = int.from_bytes(self._head[3:], "big")
            elif self._left:
                return
            if not self._left:
                break
        self._head, self._left = b"", _HEADER
        if self._agreed:
            self._dry += 1
            if self._dry > RECORDS_WITHOUT_DATA:
                raise ProtocolError(f"{self._dry} TLS records in a row without data")

    def _flush(self) -> None:
        data = self._out.read()
        if data:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                raise OSError(errno.ENOBUFS, "the client does not read")
