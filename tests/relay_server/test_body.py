"""Bodies: where they end, and tricks with chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import HttpError
from relay_server.http.body import follower
from relay_server.http.head import Body

CHUNKED = Body("chunked")

TRICKS = {
    "bare LF after size": b"1\na\r\n0\r\n\r\n",
    "bare LF after data": b"1\r\na\n0\r\n\r\n",
    "bare CR after size": b"1\ra\r\n0\r\n\r\n",
    "hex prefix": b"0x1\r\na\r\n0\r\n\r\n",
    "plus": b"+1\r\na\r\n0\r\n\r\n",
    "negative": b"-1\r\na\r\n0\r\n\r\n",
    "underscore": b"1_0\r\na\r\n0\r\n\r\n",
    "leading space": b" 1\r\na\r\n0\r\n\r\n",
    "no size": b"\r\na\r\n0\r\n\r\n",
    "too many digits": b"0" * 16 + b"1\r\na\r\n0\r\n\r\n",
    "overflow": b"FFFFFFFFFFFFFFFFF\r\n",
    "extension with bare LF": b"1;x\na\r\n0\r\n\r\n",
    "extension with bare CR": b"1;x\ry\r\na\r\n0\r\n\r\n",
    "extension with NUL": b"1;\0\r\na\r\n0\r\n\r\n",
    "endless extension": b"1;" + b"x" * 5000,
    "size too small": b"1\r\nab\r\n0\r\n\r\n",
    "size too large": b"3\r\na\r\n0\r\n\r\n",
    "trailer without colon": b"0\r\nGET / HTTP/1.1\r\n\r\n",
    "folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
    "end with bare LF": b"0\r\n\n",
}


@pytest.mark.parametrize("request_", [True, False], ids=["request", "response"])
@pytest.mark.parametrize("data", TRICKS.values(), ids=TRICKS.keys())
def test_a_trick_is_refused(data: bytes, request_: bool) -> None:
    with pytest.raises(HttpError) as caught:
        follower(CHUNKED, request=request_).follow(memoryview(data))
    assert caught.value.status == (400 if request_ else 502)


@pytest.mark.parametrize("data", [b"1;x=y\r\na\r\n0\r\n\r\n", b"0\r\nX: y\r\n\r\n"])
def test_requests_have_neither_extensions_nor_trailers(data: bytes) -> None:
    assert follower(CHUNKED, request=False).follow(memoryview(data)) == len(data)
    with pytest.raises(HttpError):
        follower(CHUNKED, request=True).follow(memoryview(data))


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.data())
def test_pieces_are_as_good_as_the_whole(chunks: list[bytes], draw: st.DataObject) -> None:
    body = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"
    stream = body + b"GET /smuggled"
    follow = follower(CHUNKED, request=True)
    at = 0
    while not follow.done:
        step = draw.draw(st.integers(1, 9))
        piece = memoryview(stream[at : at + step])
        count = follow.follow(piece)
        at += count
        assert follow.done or count == len(piece)
    assert at == len(body)


@given(st.binary(max_size=80), st.booleans())
def test_bytes_alone_are_judged_as_the_whole_is(data: bytes, request_: bool) -> None:
    def judged(step: int) -> tuple[int, bool] | int:
        follow = follower(CHUNKED, request=request_)
        at = 0
        try:
            while at < len(data) and not follow.done:
                at += follow.follow(memoryview(data[at : at + step]))
        except HttpError as error:
            return error.status
        return at, follow.done

    assert judged(1) == judged(len(data) or 1)


def test_a_length_ends_where_it_says() -> None:
    follow = follower(Body("length", 5), request=True)
    assert follow.follow(memoryview(b"abc")) == 3
    assert not follow.done
    assert follow.follow(memoryview(b"deGET /")) == 2
    assert follow.done


def test_without_a_length_everything_belongs_to_it() -> None:
    follow = follower(Body("end"), request=False)
    assert follow.follow(memoryview(b"abc")) == 3
    assert not follow.done
