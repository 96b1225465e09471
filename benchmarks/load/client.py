"""The client: ``python -m benchmarks.load.client KIND HOST PORT SECONDS`` prints JSON.

Each kind is a function of the address and the seconds to go on; it returns plain figures.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Final

from benchmarks.load.talk import (
    BUFFER_SIZE,
    COUNT,
    DISCARD,
    DOWNLOAD,
    ECHO,
    HEAD_SIZE,
    REQUEST,
    UPLOAD,
    head,
    receive_exactly,
    tune,
)

Address = tuple[str, int]
Figures = dict[str, float]

WORKERS: Final = 8
"""Processes that open connections at the same time."""
WARM_UP_S: Final = 0.3
"""Seconds that are not counted: pools grow, tickets are exchanged, windows open."""


def upload(address: Address, seconds: float) -> Figures:
    """Send for so many seconds; the time until the destination has counted all is measured."""
    data = os.urandom(BUFFER_SIZE)
    sent = 0
    with _connect(address) as sock:
        sock.sendall(head(UPLOAD))
        began = time.perf_counter()
        until = began + seconds
        while time.perf_counter() < until:
            sock.sendall(data)
            sent += len(data)
        sock.shutdown(socket.SHUT_WR)
        (count,) = COUNT.unpack(receive_exactly(sock, COUNT.size))
        taken = time.perf_counter() - began
    if count != sent:
        raise SystemExit(f"sent {sent} bytes, but {count} have arrived")
    return {"bytes": count, "seconds": taken}


def download(address: Address, seconds: float) -> Figures:
    """Receive for so many seconds, then take in what is under way."""
    buffer = bytearray(1024 * 1024)
    count = 0
    asked = False
    with _connect(address) as sock:
        sock.sendall(head(DOWNLOAD))
        began = time.perf_counter()
        while taken := sock.recv_into(buffer, 0, DISCARD):
            count += taken
            if not asked and time.perf_counter() - began >= seconds:
                asked = True
                sock.shutdown(socket.SHUT_WR)
        return {"bytes": count, "seconds": time.perf_counter() - began}


def pingpong(address: Address, seconds: float) -> Figures:
    """Send 64 bytes and wait until they are back, again and again."""
    data = head(ECHO)
    clock = time.perf_counter_ns
    times = []
    with _connect(address) as sock:
        counted_from = clock() + int(WARM_UP_S * 1e9)
        until = counted_from + int(seconds * 1e9)
        now = clock()
        while now < until:
            began = now
            sock.send(data)
            if len(receive_exactly(sock, HEAD_SIZE)) != HEAD_SIZE:
                raise SystemExit("the connection has ended")
            now = clock()
            if began >= counted_from:
                times.append(now - began)
    times.sort()
    return {f"p{n}_us": times[len(times) * n // 100] / 1e3 for n in (50, 99)}


def connect(address: Address, seconds: float) -> Figures:
    """Open connections from several processes: a request and a reply of 64 bytes on each."""
    begin = time.perf_counter() + 0.1
    pipes = []
    for number in range(WORKERS):
        reading, writing = os.pipe()
        if os.fork() == 0:
            counted, total = _open_many(address, f"127.0.0.{2 + number}", begin, seconds)
            os.write(writing, _COUNTS.pack(counted, total))
            os._exit(0)
        os.close(writing)
        pipes.append(reading)
    answers = [os.read(each, _COUNTS.size) for each in pipes]
    if not all(answers):
        raise SystemExit("a worker has failed")
    counted, total = (sum(each) for each in zip(*map(_COUNTS.unpack, answers), strict=True))
    return {"connections": counted, "total": total, "seconds": seconds}


def _open_many(address: Address, source: str, begin: float, seconds: float) -> tuple[int, int]:
    """Return how many connections were served after the warm-up, and in all."""
    data = head(REQUEST)
    clock = time.perf_counter
    time.sleep(max(begin - clock(), 0))
    counted_from = begin + WARM_UP_S
    until = counted_from + seconds
    counted = total = 0
    while (now := clock()) < until:
        with _connect(address, source) as sock:
            sock.send(data)
            if receive_exactly(sock, HEAD_SIZE) != data:
                raise SystemExit("a wrong reply, or none")
        total += 1
        counted += now >= counted_from
    return counted, total


def _connect(address: Address, source: str = "") -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    tune(sock)
    if source:  # a source address of its own, or the ports run out (TIME-WAIT)
        sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        sock.bind((source, 0))
    sock.connect(address)
    return sock


_COUNTS: Final = struct.Struct("QQ")
_BIND_ADDRESS_NO_PORT: Final = 24  # IP_BIND_ADDRESS_NO_PORT (ip(7)); named in Python from 3.12 on

KINDS: Final[dict[str, Callable[[Address, float], Figures]]] = {
    "upload": upload,
    "download": download,
    "pingpong": pingpong,
    "connect": connect,
}


def main() -> None:
    """Run the kind of load that the command line asks for."""
    kind, host, port, seconds = sys.argv[1:]
    print(json.dumps(KINDS[kind]((host, int(port)), float(seconds))))


if __name__ == "__main__":
    main()
