"""A pair's judgement, on forwarders that a test moves by hand; real ones are in test_relay."""

from __future__ import annotations

import socket
from typing import cast

import pytest

from common.fairness import Share
from common.forwarding import Forwarder, OnEnd
from common.sockets import close_with_reset
from relay_server.matchmaker import Party
from relay_server.pair import LINGER_S, Pair
from tests.common.sessions import tcp_pair

PARTY = Party("entry-point", "0", bytes(32), bytes(16), frozenset())


class Way:
    def __init__(self, source: socket.socket, sink: socket.socket, on_end: OnEnd) -> None:
        self.on_end = on_end
        self.moved, self.blocked, self.ended, self.started = 0, False, False, False

    def start(self) -> None:
        self.started = True

    def stop(self) -> None:
        self.ended = True

    def end(self, error: OSError | None = None) -> None:
        self.ended = True
        self.on_end(error)


class Bench:
    def __init__(self) -> None:
        self.ways: list[Way] = []
        self.shares: set[Share] = set()
        self.reasons: list[str] = []
        self.far, one = tcp_pair()
        other, self.there = tcp_pair()
        self.pair = Pair(
            one,
            other,
            (PARTY, PARTY),
            ("192.0.2.1", "192.0.2.2"),
            self._make,
            lambda _, reason: self.reasons.append(reason),
            0.0,
        )
        self.pair.start()
        assert [each.started for each in self.ways] == [True, True]
        assert len(self.shares) == 1, "both ways are one stream"

    def _make(
        self, source: socket.socket, sink: socket.socket, share: Share, on_end: OnEnd
    ) -> Forwarder:
        self.shares.add(share)
        self.ways.append(Way(source, sink, on_end))
        return cast("Forwarder", self.ways[-1])

    def close(self) -> None:
        self.pair.abort("test")
        assert len(self.reasons) == 1
        assert all(each.fileno() < 0 for each in self.pair._sockets)
        self.far.close()
        self.there.close()


def test_it_ends_when_both_ways_have() -> None:
    b = Bench()
    b.ways[1].end()
    assert b.reasons == []
    b.ways[0].end()
    assert b.reasons == ["ended"]
    b.close()


def test_an_error_ends_both_at_once_and_once() -> None:
    b = Bench()
    b.ways[0].end(ConnectionResetError(104, "Connection reset by peer"))
    b.ways[1].end(BrokenPipeError(32, "Broken pipe"))
    assert b.reasons == ["Connection reset by peer"]
    assert b.ways[1].ended
    for each in (b.far, b.there):
        with pytest.raises(ConnectionResetError):
            each.recv(1)
    b.close()


def test_silence_counts_from_the_last_byte() -> None:
    b = Bench()
    b.ways[0].moved = 5
    b.pair.sweep(9.0, 10.0)
    b.ways[1].moved = 1
    b.pair.sweep(18.0, 10.0)
    b.pair.sweep(27.0, 10.0)
    assert b.reasons == []
    b.pair.sweep(28.0, 10.0)
    assert b.reasons == ["silent for 10 s"]
    b.close()


def test_a_blocked_way_is_no_silence_until_a_partner_is_dead() -> None:
    b = Bench()
    b.ways[0].blocked = True
    b.pair.sweep(1000.0, 10.0)
    assert b.reasons == []
    close_with_reset(b.there)
    b.pair.sweep(1010.0, 10.0)
    assert b.reasons == ["a partner is dead"]
    b.close()


def test_the_second_way_may_linger_for_a_while() -> None:
    b = Bench()
    b.ways[0].end()
    b.pair.sweep(1.0, 100.0)
    b.pair.sweep(0.9 + LINGER_S, 100.0)
    assert b.reasons == []
    b.pair.sweep(1.0 + LINGER_S, 100.0)
    assert b.reasons == ["one side ended and the other did not"]
    b.close()
