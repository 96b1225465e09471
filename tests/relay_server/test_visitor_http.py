"""A visitor's requests over HTTP: to which service they go, what comes back, how all of it ends."""

from __future__ import annotations

import contextlib
import socket

import pytest

from common import frames
from tests.common.loops import on_both_loops, turns, until
from tests.relay_server.http_house import POST, SWITCHED, UPGRADE, House, get, http, ok, played

FIN = frames.encode(frames.FIN)


@on_both_loops
def test_each_request_goes_to_its_own_host(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(get("/1") + get("/2") + get("/3", "b.example"))
        first = await house.asked(b"GET /1 ")
        assert b"/2" not in first.received  # in order, one at a time
        first.say(ok(b"one"))
        await house.asked(b"GET /2 ")
        first.say(ok(b"two"))
        other = await house.asked(b"GET /3 ", "b.example")
        await first.is_ended()
        other.say(ok(b"three"))
        await house.visitor.gets(b"three")
        assert house.visitor.got.index(b"one") < house.visitor.got.index(b"two")
        assert b"X-Forwarded-For: 192.0.2.7\r\n" in other.received

    played(kind, play)


@on_both_loops
def test_bytes_behind_an_answer_reach_nobody(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(get("/1") + get("/2"))
        service = await house.asked(b"GET /1 ")
        service.say(ok(b"one") + ok(b"poison"))
        again = await house.asked(b"GET /2 ", number=1)  # over another stream
        again.say(ok(b"two"))
        await house.visitor.gets(b"two")
        assert b"poison" not in house.visitor.got

    played(kind, play)


ENDINGS: dict[str, tuple[bytes, bool]] = {
    "before the answer": (b"", True),
    "within the head": (b"HTTP/1.1 200 O", True),
    "within the body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", False),
    "within a body without a length": (b"HTTP/1.1 200 OK\r\n\r\nabc", False),
    "within a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", False),
}


@on_both_loops
@pytest.mark.parametrize(("said", "page"), ENDINGS.values(), ids=ENDINGS.keys())
def test_a_lost_channel_is_a_page_or_a_reset(kind: str, said: bytes, page: bool) -> None:
    async def play(house: House) -> None:
        house.say(get("/"))
        service = await house.asked(b"GET / ")
        if said:
            service.say(said)
            await turns()
        if not page:
            await house.visitor.gets(b"HTTP/1.1 200")
        service.channel.abort()
        if page:
            await house.visitor.gets(b"HTTP/1.1 502")
        else:
            await house.ends()
            await house.visitor.is_reset()

    played(kind, play)


@on_both_loops
def test_an_answer_without_a_length_ends_with_the_connection(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(get("/"))
        service = await house.asked(b"GET / ")
        service.say(b"HTTP/1.1 200 OK\r\n\r\nabc")
        service.channel.write(FIN)
        await house.visitor.gets(b"Connection: close\r\n\r\nabc")

    played(kind, play)


@on_both_loops
def test_a_visitor_that_leaves_resets_the_stream(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(POST)
        service = await house.asked(b"abc")
        house.visitor.sock.close()
        await service.is_reset()

    played(kind, play)


@on_both_loops
@pytest.mark.parametrize("first", ["visitor", "service"])
def test_a_websocket_is_bytes_both_ways_and_ends_at_both_ends(kind: str, first: str) -> None:
    async def play(house: House) -> None:
        house.say(UPGRADE)
        service = await house.asked(b"Upgrade: websocket")
        service.say(SWITCHED + b"\x81\x00")
        await house.visitor.gets(b"\r\n\r\n\x81\x00")
        house.say(b"\n\0anything")
        await house.asked(b"\n\0anything")
        if first == "visitor":
            house.visitor.sock.shutdown(socket.SHUT_WR)
            await service.is_ended()
            service.say(b"last words")
            service.channel.write(FIN)
            await house.visitor.gets(b"last words")
        else:
            service.say(b"last words")
            service.channel.write(FIN)
            await house.visitor.gets(b"last words")
            house.say(b"more")
            await house.asked(b"more")
            house.visitor.sock.shutdown(socket.SHUT_WR)
            await service.is_ended()
        await house.ends()

    played(kind, play)


@on_both_loops
def test_a_switch_that_was_not_asked_for_is_a_bad_gateway(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(get("/"))
        (await house.asked(b"GET / ")).say(SWITCHED)
        await house.visitor.gets(b"HTTP/1.1 502")

    played(kind, play)


@on_both_loops
def test_a_trick_in_a_body_ends_the_connection(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        service = await house.asked(b"POST / ")
        house.say(b"1\na\r\n0\r\n\r\n" + get("/smuggled"))
        await house.visitor.gets(b"HTTP/1.1 400")
        await service.is_reset()
        assert b"smuggled" not in service.received

    played(kind, play)


@on_both_loops
def test_a_trick_in_a_body_after_the_answer_began_is_a_reset(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        service = await house.asked(b"POST / ")
        service.say(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await house.visitor.gets(b"abc")
        house.say(b"x\r\n")
        await house.ends()
        await house.visitor.is_reset()

    played(kind, play)


@on_both_loops
def test_who_asks_without_reading_is_not_read(kind: str) -> None:
    async def play(house: House) -> None:
        asked = get("/", "nobody.example") * 200
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 1 << 24:
                sent += house.visitor.sock.send(asked)
                await turns(5)
        assert sent < 1 << 22
        assert http(house).sent < 1 << 24

    played(kind, play, buffer=16384)


@on_both_loops
def test_a_large_answer_waits_for_the_visitor_and_is_whole(kind: str) -> None:
    size = 16 << 20

    async def play(house: House) -> None:
        house.say(get("/"))
        service = await house.asked(b"GET / ")
        service.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        piece = bytes(range(256)) * 256
        for _ in range(size // len(piece)):
            service.say(piece)
        await turns(50)
        assert http(house).sent < size  # the rest waits in the channel
        await until(lambda: len(house.visitor.look().got) >= size, "all has come")
        assert house.visitor.got.endswith(piece)

    played(kind, play)


# What a service may answer


@on_both_loops
def test_an_old_visitor_gets_no_chunks(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n")
        service = await house.asked(b"GET / HTTP/1.0")
        service.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhel")
        service.say(b"lo\r\n6\r\n world\r\n0\r\nX-T: 1\r\n\r\n")
        await house.visitor.gets(b"world")
        house.visitor.sock.shutdown(socket.SHUT_WR)
        await house.ends()
        head, _, body = bytes(house.visitor.got).partition(b"\r\n\r\n")
        assert body == b"hello world"
        assert b"chunked" not in head
        assert b"Connection: close" in head

    played(kind, play)


@on_both_loops
def test_an_old_visitor_sees_that_its_answer_was_cut(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n")
        service = await house.asked(b"GET / HTTP/1.0")
        service.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel")
        await house.visitor.gets(b"hel")
        service.channel.write(FIN)
        await house.ends()
        await house.visitor.is_reset()

    played(kind, play)


@on_both_loops
@pytest.mark.parametrize("protocol", ["", "Upgrade: h2c\r\n", "Upgrade: websocket, h2c\r\n"])
def test_a_switch_to_another_protocol_is_a_bad_gateway(kind: str, protocol: str) -> None:
    async def play(house: House) -> None:
        house.say(UPGRADE)
        service = await house.asked(b"Upgrade: websocket")
        service.say(f"HTTP/1.1 101 Switching Protocols\r\n{protocol}\r\n".encode())
        await house.visitor.gets(b"HTTP/1.1 502")

    played(kind, play)
