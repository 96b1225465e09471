"""What a connection is, by its first bytes: a pure decision.

Needed where several things share a port. Nothing is taken for TLS or HTTP that is not: a
ClientHello (RFC 8446, section 4.1.2) is read as far as its extensions, over as many records as it
comes in, and HTTP has a first line that ends in its version (RFC 9112, section 3).

Invariant: it does not matter in what pieces the bytes come. What is decided stays decided.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from common.wire import ALPN

MOST: Final = 16 * 1024
"""Bytes that are looked at; a ClientHello has 2 KiB at most in practice, a request line 8."""

MOST_RECORDS: Final = 64
"""Records of a ClientHello: stacks send one, some tools a dozen; a look must cost little."""

_HANDSHAKE: Final = 22  # the content type of a record (RFC 8446, section 5.1)
_CLIENT_HELLO: Final = 1
_SNI: Final = 0  # RFC 6066, section 3
_ALPN: Final = 16  # RFC 7301, section 3.1
_METHOD: Final = re.compile(rb"[A-Z][A-Z-]{0,19}")
_TARGET: Final = re.compile(rb"[\x21-\xff]*")
_VERSION: Final = re.compile(rb"HTTP/[12]\.[0-9]\r?\n")
_USUAL_VERSION: Final = b"HTTP/1.1\r\n"
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
    method, space, rest = data.partition(b" ")
    if not _METHOD.fullmatch(method):
        return Other()
    target, space, version = rest.partition(b" ")
    if not _TARGET.fullmatch(target):
        return Other()
    if _VERSION.match(version):
        return Http()
    if space and not _VERSION.match(version + _USUAL_VERSION[len(version) :]):
        return Other()
    return None


def _tls(data: bytes) -> Verdict:
    hello = _Reader(_handshake(data))
    hello.skip(2 + 32)  # version and random
    hello.skip(hello.number(1))  # session id
    hello.skip(hello.number(2))  # cipher suites
    hello.skip(hello.number(1))  # compression methods
    sni: str | None = None
    ours = False
    extensions = hello.rest() if hello.left else _Reader(b"")
    seen: set[int] = set()
    while extensions.left:
        kind = extensions.number(2)
        body = _Reader(extensions.take(extensions.number(2)))
        if kind in seen:  # RFC 8446, section 4.2
            raise _Bad
        seen.add(kind)
        if kind == _SNI:
            sni = _server_name(body.rest())
        elif kind == _ALPN:
            protocols = body.rest()
            while protocols.left:
                ours |= protocols.take(protocols.number(1)) == ALPN.encode()
    return Tunnel() if ours else Tls(sni)


def _handshake(data: bytes) -> bytes:
    """Return the body of the ClientHello, put together from its records."""
    message, at = bytearray(), 0
    for _ in range(MOST_RECORDS):
        record = data[at : at + 5]
        if (record and record[0] != _HANDSHAKE) or (len(record) > 1 and record[1] != 3):
            raise _Bad
        if len(record) < 5:
            raise _Short
        size = int.from_bytes(record[3:], "big")
        if not 0 < size <= 2**14:
            raise _Bad
        at += 5
        message += data[at : at + size]
        at += size
        if message and message[0] != _CLIENT_HELLO:
            raise _Bad
        if len(message) >= 4:
            end = 4 + int.from_bytes(message[1:4], "big")
            if end > MOST:
                raise _Bad
            if len(message) >= end:
                return bytes(message[4:end])
        if at > len(data):
            raise _Short
    raise _Bad


def _server_name(names: _Reader) -> str | None:
    found: str | None = None
    while names.left:
        kind = names.number(1)
        name = names.take(names.number(2))
        if kind == 0:
            if found is not None or not _NAME.fullmatch(name):
                raise _Bad
            found = name.decode("ascii").lower().removesuffix(".")
    return found


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

    def rest(self) -> _Reader:
        """Return the vector (16 bits of length) that is all that is left."""
        vector = _Reader(self.take(self.number(2)))
        if self.left:
            raise _Bad
        return vector

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")
