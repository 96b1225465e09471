"""Chunked bodies: followed in any pieces, and understood as a plain parser and ``h11`` do."""

from __future__ import annotations

import re
from typing import Final

import h11

from common.errors import HttpError
from relay_server.http.body import Chunks, Length
from tests.fuzz.pieces import piece_size

# The first byte: 1 for a request's body, the rest is the size of pieces.
BODIES: Final = (
    b"5\r\nhello\r\n0\r\n\r\nnext",
    b"0\r\n\r\n",
    b"00a\r\n0123456789\r\n3\r\nabc\r\n0\r\n\r\n",
    b"3;a=b\r\nabc\r\n0\r\nX: y\r\nZ: w\r\n\r\n",
    b"1 \r\na\r\n0\t;x\r\n\r\n",
)
SEEDS: Final = tuple(bytes([size]) + body for body in BODIES for size in (0, 1, 4))
WORDS: Final = (
    b"\r\n",
    b"0\r\n\r\n",
    b"1\r\na\r\n",
    b"ffffffff\r\n",
    b"fffffffffffffff\r\n",
    b";a=b",
    b"X: y\r\n",
)

REQUEST_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,15}\r\n")
SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,15}[ \t]*(;[\t -~]*)?\r\n")
FRAMING: Final = re.compile(rb"(content-length|transfer-encoding):", re.IGNORECASE)
TRAILER: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n")


def follow(data: bytes, most: int, *, request: bool) -> tuple[int, bool, int]:
    """Follow ``data`` in pieces: bytes of the body, whether it is complete, the error's status."""
    body, at = Chunks(request=request), 0
    while at < len(data) and not body.done:
        piece = memoryview(data)[at : at + most]
        try:
            count = body.follow(piece)
        except HttpError as error:
            return 0, False, error.status
        assert count == len(piece) or body.done
        at += count
    return at, body.done, 0


def expected(data: bytes, *, request: bool) -> tuple[int, bool, int, bytes]:
    """The same by a parser that has all the bytes, and what the chunks hold."""
    bad, at, content = 400 if request else 502, 0, b""
    while True:
        end = data.find(b"\n", at) + 1
        if not end:
            return (at, False, bad, b"") if len(data) - at > 1024 else (len(data), False, 0, b"")
        line = data[at:end]
        if len(line) > 1024 or not (REQUEST_SIZE if request else SIZE).fullmatch(line):
            return at, False, bad, b""
        at, size = end, int(re.split(rb"[;\s]", line)[0], 16)
        if not size:
            break
        content += data[at : at + size]
        closing = data[at + size : at + size + 2]
        if not b"\r\n".startswith(closing):
            return at, False, bad, b""
        at += size + 2
        if at > len(data) or len(closing) < 2:
            return len(data), False, 0, b""
    while True:
        end = data.find(b"\n", at) + 1
        if not end:
            return (at, False, bad, b"") if len(data) - at > 1024 else (len(data), False, 0, b"")
        line = data[at:end]
        at = end
        if line == b"\r\n":
            return at, True, 0, content
        if request or len(line) > 1024 or not TRAILER.fullmatch(line) or FRAMING.match(line):
            return at, False, bad, b""


def check_with_h11(data: bytes, content: bytes) -> None:
    """Check that ``h11`` finds the same content in a body, which ends where it ends for us."""
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    assert isinstance(peer.next_event(), h11.Request)
    read = bytearray()
    while isinstance(event := peer.next_event(), h11.Data):
        read += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert read == content
    assert peer.trailing_data == (b"", False)


def check(data: bytes) -> None:
    if not data:
        return
    request, body = bool(data[0] & 1), data[1:]
    most = piece_size(data[0] >> 1, body)
    taken, done, status = follow(body, len(body) or 1, request=request)
    assert follow(body, most, request=request) == (taken, done, status)
    at, complete, bad, content = expected(body, request=request)
    assert (done, status) == (complete, bad)
    if not status:
        assert taken == at
    if done and b";" not in body[:taken]:
        check_with_h11(body[:taken], content)
    length = Length(most)
    assert length.follow(memoryview(body)) == min(most, len(body))
    assert length.done == (len(body) >= most)
