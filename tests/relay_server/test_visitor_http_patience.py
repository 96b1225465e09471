"""Visitors over HTTP that take their time: who is waited for, who is told, and who is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from relay_server.http.patience import IDLE_S, STALL_S
from tests.common.loops import on_both_loops, turns, until
from tests.relay_server.http_house import POST, House, get, http, later, ok, played


@on_both_loops
def test_who_stalls_in_a_body_is_told_so_and_the_service_is_let_go(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(POST)
        service = await house.asked(b"abc")
        later(house, STALL_S - 1)
        await turns()
        assert not service.frames
        later(house, STALL_S + 1)
        await house.visitor.gets(b"HTTP/1.1 408")
        await service.is_reset()

    played(kind, play)


@on_both_loops
def test_who_stalls_in_a_body_whose_answer_has_begun_is_reset(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(POST)
        (await house.asked(b"abc")).say(ok(b"some")[:-1])
        await house.visitor.gets(b"som")
        later(house, STALL_S + 1)
        await house.ends()
        await house.visitor.is_reset()

    played(kind, play)


@on_both_loops
def test_a_service_that_takes_no_body_is_not_the_visitor_s_fault(kind: str) -> None:
    size = 64 << 20

    async def play(house: House) -> None:
        house.say(b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n" % size)
        service = await house.asked(b"POST / ")
        service.channel.pause()
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < size:
                sent += house.visitor.sock.send(bytes(1 << 16))
                await turns(5)
        assert sent < size
        later(house, 10 * STALL_S)
        await turns()
        assert not house.over
        assert not house.visitor.look().got

    played(kind, play)


@on_both_loops
def test_who_takes_nothing_of_its_answer_is_cut_off(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(get("/"))
        service = await house.asked(b"GET / ")
        service.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (4 << 20))
        for _ in range(4):
            service.say(bytes(1 << 20))
        await until(lambda: http(house).sent > 0, "the answer has begun")
        await turns(50)
        later(house, STALL_S - 5)
        await turns()
        assert not house.over
        later(house, STALL_S + 1)
        await house.ends()
        await service.is_reset()

    played(kind, play, buffer=16384)


@on_both_loops
def test_empty_lines_keep_no_connection_alive(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(b"\r\n")
        await turns(50)
        later(house, IDLE_S - 1)
        assert not house.over
        house.say(b"\r\n")
        await house.visitor.gets(b"HTTP/1.1 400")

    played(kind, play)


@on_both_loops
def test_an_empty_line_before_each_request_is_nothing(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(b"\r\n" + get("/1"))
        (await house.asked(b"GET /1 ")).say(ok(b"one"))
        await house.visitor.gets(b"one")
        house.say(b"\r\n")
        await turns()
        house.say(get("/2"))
        (await house.asked(b"GET /2 ")).say(ok(b"two"))
        await house.visitor.gets(b"two")

    played(kind, play)


@on_both_loops
def test_a_visitor_that_was_reset_behind_its_request_is_noticed(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(get("/"))
        service = await house.asked(b"GET / ")
        http(house)._connection.stop_reading()  # as if the loop had been told once, and too early
        house.visitor.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        house.visitor.sock.close()
        await turns()
        assert not house.over
        later(house, 1)
        await house.ends()
        await service.is_reset()

    played(kind, play)


@on_both_loops
def test_requests_that_come_together_are_answered_in_turns(kind: str) -> None:
    async def play(house: House) -> None:
        count = 500
        house.say(get("/", "nobody.example") * count)
        seen = 0
        while http(house).requests < count:
            await asyncio.sleep(0)
            assert http(house).requests - seen <= 2  # uvloop's turn may be two of asyncio's
            seen = http(house).requests
            house.visitor.look()
        await until(
            lambda: house.visitor.look().got.count(b"HTTP/1.1 404") == count, "all answered"
        )

    played(kind, play)
