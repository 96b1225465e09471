"""Answers of services: passed on the same in any pieces, and read by ``h11`` as they were sent."""

from __future__ import annotations

import re
from typing import Final

import h11

from common.errors import HttpError
from relay_server.http.answer import Answer
from relay_server.http.head import MOST_RESPONSE_HEAD, RequestHead, parse_request, parse_response
from tests.fuzz.pieces import piece_size

END: Final = b"Host: a.example\r\n\r\n"
UPGRADE: Final = b"Connection: upgrade\r\nUpgrade: websocket\r\n"
REQUESTS: Final = tuple(
    map(
        parse_request,
        (
            b"GET / HTTP/1.1\r\n" + END,
            b"HEAD / HTTP/1.1\r\n" + END,
            b"GET / HTTP/1.0\r\n" + END,
            b"GET / HTTP/1.1\r\n" + UPGRADE + END,
        ),
    )
)
# The first byte: the request in two bits, the rest is the size of pieces.
ANSWERS: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nmore",
    b"HTTP/1.0 404 \r\nX: y\r\n\r\nuntil the end",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x00",
    b"HTTP/1.1 304\r\nContent-Length: 9\r\nConnection: close, X-A\r\nX-A: 1\r\n\r\n",
    b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
)
SEEDS: Final = (
    *(bytes([number * 20]) + each for number, each in enumerate(ANSWERS)),
    b"\x03" + ANSWERS[4],
    b"\x01" + ANSWERS[0],
    b"\x02" + ANSWERS[3],
)
WORDS: Final = (
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 ",
        b"HTTP/1.0 ",
        b"200 OK",
        b"101 ",
        b"100 ",
        b"204 ",
        b"304 ",
    ),
    *(b"Content-Length: ", b"Transfer-Encoding: chunked", b"Connection: ", b"close", b"Upgrade: "),
    *(b"0\r\n\r\n", b"1\r\na\r\n", b";a=b", b"\n", b"\0", b" :", b"\t", b"9" * 18),
)


SPACE_BEFORE_EXTENSION: Final = re.compile(r"illegal chunk header: .*'[0-9A-Fa-f]+[ \\t]+;")
"""What h11 says of white space that RFC 9112, section 7.1.1, wants to be taken."""


def take(request: RequestHead, data: bytes, most: int) -> tuple[bytes, int, Answer]:
    """Feed ``data`` in pieces: what is passed on, the status of the error, the answer."""
    answer, passed = Answer(request, lambda head: head.body.kind != "end"), bytearray()
    for start in range(0, len(data), most):
        if answer.done:
            answer.surplus = True
            break
        try:
            for each in answer.take(memoryview(data)[start : start + most]):
                passed += each
        except HttpError as error:
            return bytes(passed), error.status, answer
        assert answer.head is not None or len(answer._partial) <= MOST_RESPONSE_HEAD
    return bytes(passed), 0, answer


def check_with_h11(request: RequestHead, passed: bytes, answer: Answer) -> None:
    """Check that a visitor who uses ``h11`` sees the status and the framing that we saw."""
    head = answer.head
    assert head is not None
    peer = h11.Connection(h11.CLIENT, max_incomplete_event_size=2 * MOST_RESPONSE_HEAD)
    peer.send(h11.Request(method=request.method, target=request.target, headers=[(b"Host", b"a")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(passed)
    while isinstance(event := peer.next_event(), h11.InformationalResponse):
        assert event.status_code < 200
    assert isinstance(event, h11.Response)
    assert event.status_code == head.status
    try:
        while isinstance(event := peer.next_event(), h11.Data):
            pass
    except h11.RemoteProtocolError as error:
        if SPACE_BEFORE_EXTENSION.match(str(error)):
            return
        raise
    if answer.until_end:
        assert event is h11.NEED_DATA
        return
    assert isinstance(event, h11.EndOfMessage) == answer.done
    assert not answer.done or peer.trailing_data == (b"", False)


def check(data: bytes) -> None:
    if not data:
        return
    request, body = REQUESTS[data[0] & 3], data[1:]
    passed, status, answer = take(request, body, len(body) or 1)
    pieces, their_status, their = take(request, body, piece_size(data[0] >> 2, body))
    assert status == their_status
    assert status in (0, 502)
    assert (answer.head is None) == (their.head is None)
    if status:
        assert passed.startswith(pieces) or pieces.startswith(passed)
        return
    assert pieces == passed
    assert (answer.done, answer.switched, answer.surplus) == (
        their.done,
        their.switched,
        their.surplus,
    )
    head = answer.head
    if head is None:
        return
    assert head.status >= 200 or (head.status == 101 and request.upgrade)
    first = passed[passed.rfind(b"HTTP/1.1 %d" % head.status, 0, passed.find(b"\r\n\r\n") + 1) :]
    if head.status != 101 and request.minor == 1:
        check_with_h11(request, passed, answer)
        assert parse_response(passed[: passed.find(b"\r\n\r\n") + 4], request)
    assert first
