"""Messages of 64 bytes: there and back, on one connection, on new ones, and beside bulk data."""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Sequence
from typing import Final

from benchmarks.load.crew import wait_until, work_together
from benchmarks.load.talk import (
    DISCARD,
    DOWNLOAD,
    ECHO,
    HEAD_SIZE,
    REQUEST,
    Address,
    Figures,
    connect_to,
    head,
    receive_exactly,
)

GROWTH_S: Final = 0.3
"""Seconds that are not counted while connections are opened: pools grow, tickets are exchanged."""
FAR_GROWTH_S: Final = 1.0
"""The same on far paths, where each step of a login takes 50 ms."""
WARM_UP_SHARE: Final = 0.3
"""What is not counted in any case, as a share of the run."""
_MOVED: Final = struct.Struct("Q")


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
    """Do the same while a stream of bulk data comes in on another connection, and measure both.

    Whoever has called ends the process that receives it.
    """
    moved = mmap.mmap(-1, _MOVED.size)
    child = os.fork()
    if child == 0:
        try:
            _take_in(address, moved)
        finally:
            os._exit(1)
    began = time.perf_counter()
    figures = pingpong(address, seconds, count)
    taken_s = time.perf_counter() - began
    if os.waitpid(child, os.WNOHANG) != (0, 0):
        raise SystemExit("the bulk stream has ended")
    return {**figures, "bytes": _MOVED.unpack(moved[:])[0], "seconds": taken_s}


def _take_in(address: Address, moved: mmap.mmap) -> None:
    """Receive bulk data until killed; tell in ``moved`` how many bytes so far."""
    buffer = bytearray(1024 * 1024)
    count = 0
    with connect_to(address) as sock:
        sock.sendall(head(DOWNLOAD))
        while taken := sock.recv_into(buffer, 0, DISCARD):
            count += taken
            _MOVED.pack_into(moved, 0, count)


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
    return _connect(address, seconds, count, GROWTH_S)


def connect_far(address: Address, seconds: float, count: int) -> Figures:
    """Do the same on far paths."""
    return _connect(address, seconds, count, FAR_GROWTH_S)


def _connect(address: Address, seconds: float, count: int, growth_s: float) -> Figures:
    def work(number: int, begin: float) -> list[float]:
        return _open_many(address, f"127.0.0.{2 + number}", begin, begin + growth_s, seconds)

    done = work_together(count, work)
    times = [time for _, *each in done for time in each]
    if not times:
        raise SystemExit("not one connection was served after the warm-up")
    total = sum(each[0] for each in done)
    counted = {"connections": len(times), "total": total, "seconds": seconds}
    return {**counted, **_percentiles(times)}


def _open_many(
    address: Address, source: str, begin: float, counted_from: float, seconds: float
) -> list[float]:
    """Return how many connections were served, and the times in ns of those after the warm-up."""
    data = head(REQUEST)
    clock = time.perf_counter
    wait_until(begin)
    until = counted_from + seconds
    total = 0
    times: list[float] = []
    while (now := clock()) < until:
        # A source address of its own for each worker, or the ports run out (TIME-WAIT).
        with connect_to(address, source) as sock:
            sock.send(data)
            if receive_exactly(sock, HEAD_SIZE) != data:
                raise SystemExit("a wrong reply, or none")
        total += 1
        if now >= counted_from:
            times.append((clock() - now) * 1e9)
    return [total, *times]


def _percentiles(times: Sequence[float]) -> Figures:
    ordered = sorted(times)
    return {
        name: ordered[min(int(len(ordered) * share), len(ordered) - 1)] / 1e3
        for name, share in (("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999))
    }
