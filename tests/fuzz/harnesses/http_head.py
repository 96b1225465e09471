"""Heads of requests: what passes means the same to ``h11``, before and after."""

from __future__ import annotations

from typing import Final

import h11

from common.errors import HttpError
from relay_server.http.head import MOST_HEAD, RequestHead, parse_request, write_request
from relay_server.http.question import head_end
from tests.fuzz.outcome import outcome

GET: Final = b"GET / HTTP/1.1\r\nHost: a.example\r\n"
FIELDS: Final = (
    b"",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close, X-A\r\nX-A: 1\r\nKeep-Alive: 5\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n",
    b"Expect: 100-continue\r\nCookie: a=b; c=d\r\nX-Forwarded-For: 1.2.3.4\r\n",
    b"X_Forwarded_For: 1\r\nForwarded: for=x\r\nX:\t y \t\r\n",
)
SEEDS: Final = (
    *(GET + each + b"\r\n" for each in FIELDS),
    GET + FIELDS[1] + FIELDS[2] + b"\r\n",
    GET + FIELDS[1] * 2 + b"\r\n",
    GET.replace(b"1.1", b"1.0") + FIELDS[2] + b"\r\n",
    b"POST /a?b=c HTTP/1.0\r\nhost: [::1]:80\r\nContent-Length: 0\r\n\r\nbody",
    b"GET http://a.example:80/x HTTP/1.1\r\nHost: A.example:80\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a_b.c.\r\n\r\n",
    b"HEAD //x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
)
WORDS: Final = (
    *(each for each in FIELDS if each),
    *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b": ", b" :", b"\t", b" HTTP/1.1", b" HTTP/1.0", b"\0"),
    *(b"Host: ", b"Content-Length: ", b"Transfer-Encoding: ", b"Connection: ", b"Upgrade: "),
    *(b"chunked", b"identity", b"close", b"keep-alive", b"http://", b"https://", b"*", b"\xff"),
    *(b"GET ", b"POST ", b"OPTIONS ", b"CONNECT ", b"PRI * HTTP/2.0", b"\x0b", b"+", b"_"),
)
TOLD: Final = [(b"X-Forwarded-For", b"192.0.2.7"), (b"X-Forwarded-Proto", b"http")]


def check_with_h11(data: bytes, head: RequestHead) -> None:
    """Check that ``h11`` reads ``data`` as we have read it."""
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=2 * MOST_HEAD)
    peer.receive_data(data)
    request = peer.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.http_version) == (head.method, b"1.%d" % head.minor)
    assert [value for name, value in request.headers if name == b"host"] == [head.authority]
    framing = {
        name: value
        for name, value in request.headers
        if name in (b"content-length", b"transfer-encoding")
    }
    match head.body.kind:
        case "chunked":
            assert framing == {b"transfer-encoding": b"chunked"}
        case "length":
            assert int(framing.get(b"content-length", b"0")) == head.body.length
            assert b"transfer-encoding" not in framing
    end = peer.next_event()
    assert isinstance(end, h11.EndOfMessage) == (
        head.body.kind == "length" and not head.body.length
    )


def same(one: RequestHead, other: RequestHead) -> bool:
    return (one.method, one.target, one.minor, one.host, one.authority, one.body, one.upgrade) == (
        other.method,
        other.target,
        other.minor,
        other.host,
        other.authority,
        other.body,
        other.upgrade,
    )


def check(data: bytes) -> None:
    end = outcome(HttpError, lambda: head_end(data))
    if isinstance(end, HttpError):
        assert end.status in (400, 431)
        return
    assert not data or head_end(data[: len(data) // 2]) in (0, end)
    if not end:
        return
    raw = data[:end]
    assert raw.count(b"\r\n\r\n") == 1
    head = outcome(HttpError, lambda: parse_request(raw))
    if isinstance(head, HttpError):
        assert head.status in (400, 405, 417, 431, 501)
        return
    names = [line.partition(b":")[0].lower() for line in raw[:-4].split(b"\r\n")[1:]]
    assert names.count(b"host") == 1
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    assert head.host
    assert head.host == head.host.lower()
    assert head.target.startswith(b"/") or head.target == b"*"
    check_with_h11(raw, head)
    written = write_request(head, TOLD, b"")
    again = parse_request(written)
    assert same(again, head)
    check_with_h11(written, again)
    lines = written[:-4].split(b"\r\n")
    names = [line.partition(b":")[0].lower().replace(b"_", b"-") for line in lines[1:]]
    # What the service is told of the visitor is what we say, and nothing else.
    for name in (b"x-forwarded-for", b"x-forwarded-proto", b"host"):
        assert names.count(name) == 1
    assert b"forwarded" not in names
    assert names.count(b"transfer-encoding") + names.count(b"content-length") <= 1
    assert write_request(again, TOLD, b"") == written or head.minor == 0 or head.upgrade
    renamed = parse_request(write_request(head, (), b"intranet.lan:81"))
    assert (renamed.host, renamed.target) == ("intranet.lan", head.target)
