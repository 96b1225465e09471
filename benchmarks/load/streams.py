"""Bulk data: streams of their own processes, each way."""

from __future__ import annotations

import os
import time

from benchmarks.load.crew import wait_until, work_together
from benchmarks.load.talk import (
    BLOCK_SIZE,
    BUFFER_SIZE,
    COUNT,
    DISCARD,
    DOWNLOAD,
    ENOUGH,
    UPLOAD,
    Address,
    Figures,
    connect_to,
    head,
    receive_exactly,
)


def upload(address: Address, seconds: float, count: int) -> Figures:
    """Send for so many seconds; the time until the destination has counted all is measured."""
    return _sum(work_together(count, lambda _, begin: _send(address, begin, seconds)))


def download(address: Address, seconds: float, count: int) -> Figures:
    """Receive for so many seconds, then take in what is under way."""
    return _sum(work_together(count, lambda _, begin: _receive(address, begin, seconds)))


def _sum(done: list[list[float]]) -> Figures:
    """All bytes, and the time of the slowest stream."""
    counts, times = zip(*done, strict=True)
    return {"bytes": sum(counts), "seconds": max(times)}


def _send(address: Address, begin: float, seconds: float) -> tuple[int, float]:
    data = os.urandom(BUFFER_SIZE)
    sent = 0
    with connect_to(address) as sock:
        sock.sendall(head(UPLOAD))
        wait_until(begin)
        began = time.perf_counter()
        until = began + seconds
        while time.perf_counter() < until or sent % BLOCK_SIZE:
            sock.sendall(data)
            sent += len(data)
        acknowledged = 0
        while acknowledged < sent:
            answer = receive_exactly(sock, COUNT.size)
            if len(answer) < COUNT.size:
                raise SystemExit(f"sent {sent} bytes, but only {acknowledged} have arrived")
            (acknowledged,) = COUNT.unpack(answer)
        return sent, time.perf_counter() - began


def _receive(address: Address, begin: float, seconds: float) -> tuple[int, float]:
    buffer = bytearray(1024 * 1024)
    count = 0
    asked = False
    with connect_to(address) as sock:
        wait_until(begin)
        sock.sendall(head(DOWNLOAD))
        began = time.perf_counter()
        while taken := sock.recv_into(buffer, 0, DISCARD):
            count += taken
            if not asked and time.perf_counter() - began >= seconds:
                asked = True
                sock.send(ENOUGH)
        return count, time.perf_counter() - began
