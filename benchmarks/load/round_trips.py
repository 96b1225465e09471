"""Messages of 64 bytes: there and back, on one connection, on new ones, and beside bulk data."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Final

from benchmarks.load.crew import wait_until, work_together
from benchmarks.load.streams import download
from benchmarks.load.talk import (
    ECHO,
    HEAD_SIZE,
    REQUEST,
    STALLED_S,
    Address,
    Figures,
    connect_to,
    head,
    receive_exactly,
)

GROWTH_S: Final = 0.3
"""Seconds that are not counted while connections are opened: pools grow, tickets are exchanged."""
WARM_UP_SHARE: Final = 0.3
"""What is not counted elsewhere, as a share of the run."""


def pingpong(address: Address, seconds: float, count: int) -> Figures:  # noqa: ARG001
    """Send 64 bytes and wait until they are back, again and again."""
    data = head(ECHO)
    clock = time.perf_counter_ns
    times: list[int] = []
    with connect_to(address) as sock:
        counted_from = clock() + int(WARM_UP_SHARE * seconds * 1e9)
        until = counted_from + int(seconds * 1e9)
        now = clock()
        # Where one takes longer than a short run, one is counted all the same.
        while now < until or not times:
            began = now
            sock.send(data)
            if len(receive_exactly(sock, HEAD_SIZE)) != HEAD_SIZE:
                raise SystemExit("the connection has ended")
            now = clock()
            if began >= counted_from:
                times.append(now - began)
    return _percentiles(times)


def beside_bulk(address: Address, seconds: float, count: int) -> Figures:
    """Do the same while a stream of bulk data comes in on another connection.

    Whoever has called ends the process that receives it.
    """
    child = os.fork()
    if child == 0:
        try:
            download(address, seconds + STALLED_S, 1)
        finally:
            os._exit(1)
    figures = pingpong(address, seconds, count)
    if os.waitpid(child, os.WNOHANG) != (0, 0):
        raise SystemExit("the bulk stream has ended")
    return figures


def first_byte(address: Address, seconds: float, count: int) -> Figures:  # noqa: ARG001
    """Connect, send 64 bytes and wait for the reply, one connection after the other."""
    data = head(REQUEST)
    clock = time.perf_counter_ns
    counted_from = clock() + int(WARM_UP_SHARE * seconds * 1e9)
    until = counted_from + int(seconds * 1e9)
    times: list[int] = []
    while (began := clock()) < until or not times:
        with connect_to(address) as sock:
            sock.send(data)
            if receive_exactly(sock, HEAD_SIZE) != data:
                raise SystemExit("a wrong reply, or none")
            if began >= counted_from:
                times.append(clock() - began)
    return _percentiles(times)


def connect(address: Address, seconds: float, count: int) -> Figures:
    """Open connections from several processes: a request and a reply of 64 bytes on each."""
    done = work_together(
        count, lambda number, begin: _open_many(address, f"127.0.0.{2 + number}", begin, seconds)
    )
    counted, total = (sum(each) for each in zip(*done, strict=True))
    return {"connections": counted, "total": total, "seconds": seconds}


def _open_many(address: Address, source: str, begin: float, seconds: float) -> tuple[int, int]:
    """Return how many connections were served after the warm-up, and in all."""
    data = head(REQUEST)
    clock = time.perf_counter
    wait_until(begin)
    counted_from = begin + GROWTH_S
    until = counted_from + seconds
    counted = total = 0
    while (now := clock()) < until:
        # A source address of its own for each worker, or the ports run out (TIME-WAIT).
        with connect_to(address, source) as sock:
            sock.send(data)
            if receive_exactly(sock, HEAD_SIZE) != data:
                raise SystemExit("a wrong reply, or none")
        total += 1
        counted += now >= counted_from
    return counted, total


def _percentiles(times: Sequence[int]) -> Figures:
    ordered = sorted(times)
    return {
        name: ordered[min(int(len(ordered) * share), len(ordered) - 1)] / 1e3
        for name, share in (("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999))
    }
