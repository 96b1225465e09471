"""Answers of services: in any pieces, and what the visitor gets of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import HttpError
from relay_server.http.answer import Answer
from relay_server.http.head import MOST_RESPONSE_HEAD, ResponseHead, parse_request


def answer(method: str = "GET", minor: int = 1, more: str = "", *, keep: bool = True) -> Answer:
    request = parse_request(f"{method} / HTTP/1.{minor}\r\nHost: a.example\r\n{more}\r\n".encode())

    def keep_alive(_: ResponseHead) -> bool:
        return keep

    return Answer(request, keep_alive)


def taken(to: Answer, *pieces: bytes) -> bytes:
    return b"".join(bytes(part) for piece in pieces for part in to.take(memoryview(piece)))


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
CHUNKS = b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n"

WHOLE = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    "chunked": (CHUNKED + CHUNKS, CHUNKS),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b""),
    "interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        b"x",
    ),
}


@pytest.mark.parametrize(("said", "body"), WHOLE.values(), ids=WHOLE.keys())
def test_the_pieces_do_not_matter(said: bytes, body: bytes) -> None:
    at_once, in_bytes = answer(), answer()
    whole = taken(at_once, said)
    assert whole.endswith(b"\r\n\r\n" + body)
    assert taken(in_bytes, *(said[at : at + 1] for at in range(len(said)))) == whole
    for each in (at_once, in_bytes):
        assert each.done
        assert each.kept
        assert not each.surplus


@given(cuts=st.lists(st.integers(0, len(CHUNKED + CHUNKS)), max_size=8))
def test_an_old_visitor_gets_the_content_of_the_chunks(cuts: list[int]) -> None:
    said = CHUNKED + CHUNKS
    edges = [0, *sorted(cuts), len(said)]
    to = answer(minor=0, keep=False)
    got = taken(to, *(said[a:b] for a, b in pairwise(edges)))
    assert got == b"HTTP/1.1 200 OK\r\nX-A: b\r\nConnection: close\r\n\r\nhello world"
    assert to.done
    assert not to.surplus


def test_an_old_visitor_is_told_of_no_chunks_and_gets_no_interim_answers() -> None:
    to = answer("HEAD", minor=0, keep=False)
    got = taken(to, b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED)
    assert got == b"HTTP/1.1 200 OK\r\nX-A: b\r\nConnection: close\r\n\r\n"
    assert to.done


def test_what_was_promised_is_remembered() -> None:
    to = answer(keep=False)
    assert b"Connection: close\r\n" in taken(to, WHOLE["length"][0])
    assert not to.kept


def test_more_than_was_asked_for_is_not_passed_on() -> None:
    to = answer()
    got = taken(to, WHOLE["length"][0] + b"HTTP/1.1 200 OK\r\n\r\npoison")
    assert got.endswith(b"abc")
    assert to.surplus


def test_a_body_without_a_length_goes_on_until_the_end() -> None:
    to = answer()
    assert taken(to, b"HTTP/1.1 200 OK\r\n\r\nabc", b"def").endswith(b"\r\n\r\nabcdef")
    assert to.until_end
    assert not to.done


UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\n"


def test_after_a_switch_everything_is_passed_on() -> None:
    to = answer(more=UPGRADE)
    said = b"HTTP/1.1 101 Switching\r\nUpgrade: WebSocket\r\nContent-Length: 5\r\n\r\n\x81\0"
    got = taken(to, said, b"anything\r\n\r\n")
    assert to.switched
    assert not to.done
    head, _, rest = got.partition(b"\r\n\r\n")
    assert rest == b"\x81\0anything\r\n\r\n"
    assert b"Connection: Upgrade\r\nUpgrade: websocket" in head
    assert b"Content-Length" not in head


@pytest.mark.parametrize("more", ["", UPGRADE])
@pytest.mark.parametrize(
    "protocol", [b"", b"Upgrade: h2c\r\n", b"Upgrade: websocket\r\nUpgrade: h2c\r\n"]
)
def test_a_switch_to_what_was_not_asked_for_is_refused(more: str, protocol: bytes) -> None:
    with pytest.raises(HttpError, match="not asked for"):
        taken(answer(more=more), b"HTTP/1.1 101 Switching Protocols\r\n" + protocol + b"\r\n")


def test_a_switch_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(HttpError, match="not asked for"):
        taken(answer(), b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")


def test_a_head_without_end_is_refused_and_not_kept() -> None:
    to = answer()
    line = b"X-Filler: %b\r\n" % (b"x" * 1000)
    taken(to, b"HTTP/1.1 200 OK\r\n", *[line] * (MOST_RESPONSE_HEAD // len(line)))
    with pytest.raises(HttpError, match="too long"):
        taken(to, line)


def test_interim_answers_without_end_are_passed_on_and_not_kept() -> None:
    to = answer()
    for _ in range(1000):
        assert taken(to, b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10).count(b"103") == 10
    assert len(to._partial) == 0
    assert taken(to, WHOLE["length"][0]).endswith(b"abc")
