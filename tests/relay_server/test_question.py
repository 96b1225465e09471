"""Requests of visitors, and what follows from them."""

from __future__ import annotations

import pytest

from common.addresses import HostPort
from common.errors import HttpError
from relay_server.http import pages
from relay_server.http.head import MOST_HEAD
from relay_server.http.question import Question, head_end, told_of


def question(method: str = "GET", more: str = "", minor: int = 1) -> Question:
    return Question(f"{method} /x HTTP/1.{minor}\r\nHost: a.example\r\n{more}\r\n".encode())


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_what_may_be_asked_twice(method: str) -> None:
    assert question(method).repeatable
    assert not question(method, "Content-Length: 3\r\n").repeatable


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "get"])
def test_what_may_not(method: str) -> None:
    assert not question(method).repeatable


def test_a_connection_is_kept_when_nothing_of_the_request_is_left() -> None:
    assert question().keeps_alive()
    assert not question(more="Connection: Close\r\n").keeps_alive()
    assert not question(minor=0).keeps_alive()
    body = question("POST", "Content-Length: 3\r\n")
    assert not body.keeps_alive()
    body.body.follow(memoryview(b"abc"))
    assert body.keeps_alive()


def test_a_service_is_told_of_the_visitor_by_us_alone() -> None:
    told = told_of(HostPort("192.0.2.7", 5), HostPort("198.51.100.1", 443), "https")
    asked = question(
        more="X-Forwarded-For: 1.1.1.1\r\nx_forwarded_proto: gopher\r\nForwarded: for=1.1.1.1\r\n"
        "X-Real-IP: 1.1.1.1\r\nConnection: X-Forwarded-For, Host\r\n"
    )
    head = asked.for_service(told, b"intranet")
    assert b"1.1.1.1" not in head
    assert b"gopher" not in head
    for line in (
        *(b"Host: intranet", b"X-Forwarded-Host: a.example", b"X-Forwarded-For: 192.0.2.7"),
        *(b"X-Forwarded-Proto: https", b"X-Forwarded-Port: 443"),
    ):
        assert head.count(line + b"\r\n") == 1
    assert b"\r\nHost: a.example\r\n" in asked.for_service(told, b"")


def test_an_answer_of_ours_has_the_form_the_visitor_wants() -> None:
    page = pages.offline("a.example")
    assert b"<html" in question(more="Accept: text/html\r\n").answer(page, keep_alive=True)
    assert b"<html" not in question().answer(page, keep_alive=True)
    head = question("HEAD").answer(page, keep_alive=False)
    assert head.endswith(b"Connection: close\r\n\r\n")


def test_where_a_head_ends() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert head_end(head + b"more") == len(head)
    for size in range(1, len(head)):
        assert head_end(head[:size]) == 0
    assert head_end(b"") == 0


@pytest.mark.parametrize("first", [b"\x16\x03", b"\0", b" GET", b"\r\n\r\n", b"\n", b"\xff"])
def test_what_is_no_http_is_known_by_its_first_byte(first: bytes) -> None:
    with pytest.raises(HttpError) as refused:
        head_end(first)
    assert refused.value.status == 400


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
def test_a_head_that_is_too_long_is_refused(end: bytes) -> None:
    with pytest.raises(HttpError) as refused:
        head_end(b"G" * MOST_HEAD + end)
    assert refused.value.status == 431
