"""What a connection is, by its first bytes: a pure decision.

Needed where several things share a port. Nothing is taken for TLS or HTTP that is not: a
ClientHello (RFC 8446, section 4.1.2) is read as far as its extensions, over as many records as it
comes in, and HTTP has a first line that ends in its version (RFC 9112, section 3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from common.wire import ALPN

MOST: Final = 16 * 1024
"""Bytes that are looked at; a ClientHello has 2 KiB at most in practice, a request line 8."""

_HANDSHAKE: Final = 22  # the content type of a record (RFC 8446, section 5.1)
_CLIENT_HELLO: Final = 1
_SNI: Final = 0  # RFC 6066, section 3
_ALPN: Final = 16  # RFC 7301, section 3.1
_REQUEST: Final = re.compile(rb"[A-Z]{1,20} [^\r\n]*? ?HTTP/[12]\.[0-9]\r?\n")
_MAYBE_REQUEST: Final = re.compile(rb"[A-Z]{1,20}( [\x21-\xff]*( [HTP/12.0-9]*\r?)?)?\Z")
_NAME: Final = re.compile(rb"[A-Za-z0-9_.-]{1,253}")


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A client of ours: TLS with our ALPN."""

    def __str__(self) -> str:
        return "tunnel client"


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS, with the host name that the client wants, lower-case, if it says."""

    sni: str | None

    def __str__(self) -> str:
        return f"TLS for {self.sni}" if self.sni else "TLS"


@dataclass(frozen=True, slots=True)
class Http:
    """A request of HTTP/1, or the preface of HTTP/2 (RFC 9113, section 3.4)."""

    def __str__(self) -> str:
        return "HTTP"


@dataclass(frozen=True, slots=True)
class Other:
    """Something else."""

    def __str__(self) -> str:
        return "such protocol"


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing, for as long as a client that speaks first would take; or the end at once."""

    def __str__(self) -> str:
        return "client that waits to be spoken to"


Verdict: TypeAlias = Tunnel | Tls | Http | Other | Silent


class _Short(Exception):  # noqa: N818 - no error: more bytes are needed
    pass


class _Bad(Exception):  # noqa: N818 - no error: it is something else
    pass


def classify(data: bytes, *, ended: bool = False) -> Verdict | None:
    """Return what a connection is that begins with ``data``, or ``None`` if more is needed.

    Args:
        data: the first bytes, at least one; of more than ``MOST`` the rest is ignored.
        ended: no more will come.
    """
    data = data[:MOST]
    try:
        verdict = _tls(data) if data[0] == _HANDSHAKE else _text(data)
    except _Short:
        verdict = None
    except _Bad:
        return Other()
    if verdict is None and (ended or len(data) >= MOST):
        return Other()
    return verdict


def _text(data: bytes) -> Verdict | None:
    if _REQUEST.match(data):
        return Http()
    return None if _MAYBE_REQUEST.match(data) else Other()


def _tls(data: bytes) -> Verdict:
    hello = _Reader(_handshake(data))
    hello.skip(2 + 32)  # version and random
    hello.skip(hello.number(1))  # session id
    hello.skip(hello.number(2))  # cipher suites
    hello.skip(hello.number(1))  # compression methods
    sni: str | None = None
    ours = False
    extensions = _Reader(hello.take(hello.number(2))) if hello.left else _Reader(b"")
    while extensions.left:
        kind = extensions.number(2)
        body = _Reader(extensions.take(extensions.number(2)))
        if kind == _SNI and sni is None:
            sni = _server_name(body)
        elif kind == _ALPN:
            protocols = _Reader(body.take(body.number(2)))
            while protocols.left:
                ours |= protocols.take(protocols.number(1)) == ALPN.encode()
    return Tunnel() if ours else Tls(sni)


def _handshake(data: bytes) -> bytes:
    """Return the body of the ClientHello, put together from its records."""
    message, at = b"", 0
    while True:
        record = data[at : at + 5]
        if (record and record[0] != _HANDSHAKE) or (len(record) > 1 and record[1] != 3):
            raise _Bad
        if message[:1] not in (b"", bytes((_CLIENT_HELLO,))):
            raise _Bad
        if len(message) >= 4:
            length = int.from_bytes(message[1:4], "big")
            if length > MOST:
                raise _Bad
            if len(message) >= 4 + length:
                return message[4 : 4 + length]
        if len(record) < 5:
            raise _Short
        size = int.from_bytes(record[3:], "big")
        if not 0 < size <= 2**14:
            raise _Bad
        message += data[at + 5 : at + 5 + size]
        if at + 5 + size > len(data):
            if message[:1] not in (b"", bytes((_CLIENT_HELLO,))):
                raise _Bad
            raise _Short
        at += 5 + size


def _server_name(body: _Reader) -> str | None:
    names = _Reader(body.take(body.number(2)))
    while names.left:
        kind = names.number(1)
        name = names.take(names.number(2))
        if kind == 0:
            if not _NAME.fullmatch(name):
                raise _Bad
            return name.decode("ascii").lower().removesuffix(".")
    return None


class _Reader:
    """Reads fields off a message that is there whole: what is missing is bad."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise _Bad
        self._at += count
        return self._data[self._at - count : self._at]

    def skip(self, count: int) -> None:
        self.take(count)

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")
