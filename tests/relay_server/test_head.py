"""Heads: one test for each known way to have two programs read a request differently."""

from __future__ import annotations

import contextlib
import time

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import HttpError
from relay_server.http.head import (
    MOST_FIELDS,
    NO_BODY,
    Body,
    parse_request,
    parse_response,
    write_request,
    write_response,
)

HOST = b"Host: a.example\r\n"
GET = parse_request(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
HEAD = parse_request(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n")


def post(fields: bytes, version: bytes = b"1.1") -> bytes:
    return b"POST / HTTP/" + version + b"\r\n" + HOST + fields + b"\r\n"


TRICKS = {
    "CL.TE": post(b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"),
    "TE.CL": post(b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n"),
    "CL+CL": post(b"Content-Length: 6\r\nContent-Length: 5\r\n"),
    "CL+same CL": post(b"Content-Length: 6\r\nContent-Length: 6\r\n"),
    "CL list": post(b"Content-Length: 6, 6\r\n"),
    "CL plus": post(b"Content-Length: +5\r\n"),
    "CL hex": post(b"Content-Length: 0x5\r\n"),
    "CL negative": post(b"Content-Length: -5\r\n"),
    "CL underscore": post(b"Content-Length: 1_0\r\n"),
    "CL huge": post(b"Content-Length: " + b"9" * 30 + b"\r\n"),
    "CL empty": post(b"Content-Length:\r\n"),
    "CL inner space": post(b"Content-Length: 1 0\r\n"),
    "CL other digits": post("Content-Length: \u0665\r\n".encode()),
    "CL fraction": post(b"Content-Length: 5.0\r\n"),
    "TE twice": post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    "TE.TE": post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"),
    "TE x": post(b"Transfer-Encoding: xchunked\r\n"),
    "TE identity": post(b"Transfer-Encoding: identity\r\n"),
    "TE list": post(b"Transfer-Encoding: gzip, chunked\r\n"),
    "TE chunked last": post(b"Transfer-Encoding: chunked, identity\r\n"),
    "TE quoted": post(b'Transfer-Encoding: "chunked"\r\n'),
    "TE vertical tab": post(b"Transfer-Encoding: \x0bchunked\r\n"),
    "TE comma": post(b"Transfer-Encoding: chunked,\r\n"),
    "TE space before colon": post(b"Transfer-Encoding : chunked\r\n"),
    "TE tab before colon": post(b"Transfer-Encoding\t: chunked\r\n"),
    "TE leading space": post(b" Transfer-Encoding: chunked\r\n"),
    "TE folded": post(b"Transfer-Encoding:\r\n chunked\r\n"),
    "TE folded by tab": post(b"X: y\r\n\tTransfer-Encoding: chunked\r\n"),
    "TE after bare LF": post(b"X: y\nTransfer-Encoding: chunked\r\n"),
    "TE after bare CR": post(b"X: y\rTransfer-Encoding: chunked\r\n"),
    "TE in 1.0": post(b"Transfer-Encoding: chunked\r\n", b"1.0"),
    "NUL in value": post(b"X: a\0b\r\n"),
    "NUL in name": post(b"X\0: a\r\n"),
    "DEL in value": post(b"X: a\x7f\r\n"),
    "odd name": post("X\u00e9: a\r\n".encode()),
    "name in brackets": post(b"X(y): a\r\n"),
    "no name": post(b": a\r\n"),
    "no colon": post(b"Content-Length\r\n"),
    "two Hosts": post(b"Host: b.example\r\n"),
    "two Hosts, same": post(HOST),
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "no Host in 1.0": b"GET / HTTP/1.0\r\n\r\n",
    "empty Host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "Host with path": b"GET / HTTP/1.1\r\nHost: a.example/x\r\n\r\n",
    "Host with userinfo": b"GET / HTTP/1.1\r\nHost: u@a.example\r\n\r\n",
    "Host list": b"GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n",
    "Host with space": b"GET / HTTP/1.1\r\nHost: a.example b\r\n\r\n",
    "Host with bad port": b"GET / HTTP/1.1\r\nHost: a.example:x\r\n\r\n",
    "Host with high port": b"GET / HTTP/1.1\r\nHost: a.example:65536\r\n\r\n",
    "Host with two ports": b"GET / HTTP/1.1\r\nHost: a.example:1:2\r\n\r\n",
    "Host with empty label": b"GET / HTTP/1.1\r\nHost: a..example\r\n\r\n",
    "absolute-form disagrees": b"GET http://b.example/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute-form other port": b"GET http://a.example:81/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute-form userinfo": b"GET http://u@a.example/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute-form other scheme": b"GET ftp://a.example/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "authority-form": b"GET a.example:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "fragment": b"GET /#x HTTP/1.1\r\n" + HOST + b"\r\n",
    "star for GET": b"GET * HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT a.example:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "TRACE": b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\n" + HOST + b"\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n",
    "tab in line": b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "space in target": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "space after version": b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n",
    "lower-case version": b"GET / http/1.1\r\n" + HOST + b"\r\n",
    "eighth bit in target": b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n",
    "bare LF first": b"GET / HTTP/1.1\n" + HOST + b"\r\n",
    "empty first line": b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "white space first": b"GET / HTTP/1.1\r\n " + HOST + b"\r\n",
    "odd expectation": post(b"Expect: 200-ok\r\n"),
    "many fields": post(b"X: y\r\n" * MOST_FIELDS),
    "no end": b"GET / HTTP/1.1\r\n" + HOST,
}


@pytest.mark.parametrize("head", TRICKS.values(), ids=TRICKS.keys())
def test_a_trick_is_refused(head: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        parse_request(head)
    assert caught.value.status in (400, 405, 417, 431, 501)


def test_what_is_allowed() -> None:
    head = parse_request(post(b"Content-Length: 5 \r\nConnection: Close\r\n"))
    assert head.body == Body("length", 5)
    assert not head.keep_alive
    assert parse_request(post(b"Transfer-Encoding: CHUNKED\r\n")).body == Body("chunked")
    assert parse_request(b"GET / HTTP/1.1\r\nHost: A.Example.:80\r\n\r\n").host == "a.example"
    absolute = parse_request(b"GET HTTP://a.example?x HTTP/1.1\r\n" + HOST + b"\r\n")
    assert absolute.target == b"/?x"
    assert parse_request(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n").target == b"*"
    with_body = parse_request(b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\n")
    assert with_body.body == Body("length", 3)


@pytest.mark.parametrize("space", [b" ", b"\t", b" \t"])
def test_white_space_takes_no_more_than_linear_time(space: bytes) -> None:
    began = time.process_time()
    with pytest.raises(HttpError):
        parse_request(post(b"X:" + space * 30_000 + b"\0\r\n"))
    assert time.process_time() - began < 0.1


def written(fields: bytes) -> bytes:
    head = parse_request(b"GET / HTTP/1.1\r\n" + HOST + fields + b"\r\n")
    return write_request(head, [(b"X-Forwarded-For", b"192.0.2.7")], b"")


@pytest.mark.parametrize(
    "name",
    ["X-Forwarded-For", "x-forwarded-for", "X_Forwarded_For", "X-Forwarded_For", "Forwarded",
     "X-Forwarded-Prefix", "X-Real-IP", "X_Real_IP", "Content_Length", "Transfer_Encoding",
     "Keep-Alive", "Upgrade", "TE", "Trailer", "Proxy-Connection"],
)  # fmt: skip
def test_what_a_visitor_must_not_say_is_left_out(name: str) -> None:
    head = written(f"{name}: h2c\r\n".encode())
    assert b"h2c" not in head
    assert head.count(b"192.0.2.7") == 1


@pytest.mark.parametrize("name", ["Host", "X-Forwarded-For", "Content-Length", "Cookie"])
def test_connection_cannot_take_fields_away(name: str) -> None:
    fields = f"Connection: {name}, X-Mine\r\nX-Mine: 1\r\nCookie: c\r\nContent-Length: 0\r\n"
    head = written(fields.encode())
    assert b"X-Mine" not in head
    assert f"\r\n{name}: ".encode() in head


def test_only_websocket_is_an_upgrade() -> None:
    wanted = b"Connection: Upgrade\r\nUpgrade: "
    assert b"Upgrade: websocket" in written(wanted + b"WebSocket\r\n")
    assert b"pgrade" not in written(wanted + b"h2c\r\n")
    assert b"pgrade" not in written(wanted + b"websocket, h2c\r\n")
    assert b"pgrade" not in written(b"Upgrade: websocket\r\n")


BAD_RESPONSES = {
    "CL with TE": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "CL+CL": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "CL list": b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
    "TE unknown": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "TE in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nX: y\r\n\r\n",
    "folded": b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
    "status": b"HTTP/1.1 20 OK\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
}


@pytest.mark.parametrize("head", BAD_RESPONSES.values(), ids=BAD_RESPONSES.keys())
def test_a_bad_response_is_a_bad_gateway(head: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        parse_response(head, GET)
    assert caught.value.status == 502


def test_where_a_response_ends() -> None:
    long = b"\r\nContent-Length: 9\r\n\r\n"
    assert parse_response(b"HTTP/1.1 200 OK" + long, HEAD).body == NO_BODY
    assert parse_response(b"HTTP/1.1 200 OK" + long, GET).body == Body("length", 9)
    assert parse_response(b"HTTP/1.1 304 No" + long, GET).body == NO_BODY
    assert parse_response(b"HTTP/1.1 200 OK\r\n\r\n", GET).body == Body("end")


@pytest.mark.parametrize("status", [100, 103, 204])
def test_what_has_no_body_does_not_say_how_long_it_is(status: int) -> None:
    head = parse_response(b"HTTP/1.1 %d X\r\nContent-Length: 9\r\n\r\n" % status, GET)
    assert head.body == NO_BODY
    assert b"Content-Length" not in write_response(head, keep_alive=True)


LINES = [b"Host: a.example", b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X: y", b"X"]
MARKS = [b"\r\n", b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b",", b"\0", b"\xff", b"5"]
PIECES = st.sampled_from([*LINES, *MARKS, b"Connection: close", b"Upgrade: h2c"])


@given(st.lists(PIECES, max_size=12))
def test_what_is_accepted_means_the_same_to_another_parser(pieces: list[bytes]) -> None:
    data = b"GET / HTTP/1.1\r\nHost: a.example\r\n" + b"".join(pieces) + b"\r\n\r\n"
    head = data[: data.index(b"\r\n\r\n") + 4]
    with contextlib.suppress(HttpError):
        ours = parse_request(head)
        for each in (head, write_request(ours, [], b"")):
            peer = h11.Connection(h11.SERVER)
            peer.receive_data(each)
            event = peer.next_event()
            assert isinstance(event, h11.Request)
            assert (event.method, event.target) == (ours.method, ours.target)
            names = {name for name, _ in event.headers}
            assert (b"transfer-encoding" in names) == (ours.body.kind == "chunked")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_refused(data: bytes) -> None:
    with contextlib.suppress(HttpError):
        parse_request(data + b"\r\n\r\n")
    with contextlib.suppress(HttpError):
        parse_response(data + b"\r\n\r\n", GET)
