"""The long way: it takes its time, keeps order, throttles nothing, and passes ends on."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.processes import Process
from benchmarks.systems.base import ROOT, Address, python_module, to_address

ONE_WAY_S = 0.04


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(10)
        yield sock


@pytest.fixture
def way(listener: socket.socket, tmp_path: Path) -> Iterator[Address]:
    host, port = listener.getsockname()
    arguments = map(str, (host, port, ONE_WAY_S, "127.0.0.1", 0))
    command = [*python_module("benchmarks.load.delay"), *arguments]
    process = Process("delay", command, tmp_path, {"PYTHONPATH": str(ROOT)})
    try:
        yield to_address(process.wait_ready())
    finally:
        process.close()


def accepted(listener: socket.socket) -> socket.socket:
    sock, _ = listener.accept()
    sock.settimeout(10)
    return sock


def test_a_connection_takes_a_round_trip_and_its_first_bytes_one_way_more(
    listener: socket.socket, way: Address
) -> None:
    began = time.monotonic()
    with socket.create_connection(way, 10) as near:
        near.sendall(b"first")
        with accepted(listener) as far:
            assert far.recv(5) == b"first"
            assert time.monotonic() - began >= 3 * ONE_WAY_S - 0.002
            for _ in range(3):
                began = time.monotonic()
                near.sendall(b"to")
                assert far.recv(2) == b"to"
                far.sendall(b"back")
                assert near.recv(4) == b"back"
                assert time.monotonic() - began >= 2 * ONE_WAY_S - 0.002


def test_what_is_under_way_is_bounded_by_nothing_and_arrives_whole(
    listener: socket.socket, way: Address
) -> None:
    data = os.urandom(32 * 1024 * 1024)
    with socket.create_connection(way, 10) as near:

        def send() -> None:
            near.sendall(data)
            near.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        received = hashlib.sha256()
        with accepted(listener) as far:
            sender.join(10)
            assert not sender.is_alive(), "it asks the sender to wait for the receiver"
            while piece := far.recv(1 << 20):
                received.update(piece)
            far.sendall(b"still open")
            assert near.recv(10) == b"still open"
    assert received.digest() == hashlib.sha256(data).digest()


def test_an_abort_arrives_as_one(listener: socket.socket, way: Address) -> None:
    with socket.create_connection(way, 10) as near:
        near.sendall(b"x")
        with accepted(listener) as far:
            assert far.recv(1) == b"x"
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            near.close()
            with pytest.raises(ConnectionResetError):
                far.recv(1)


def test_nobody_there_is_a_reset(listener: socket.socket, way: Address) -> None:
    listener.close()
    with socket.create_connection(way, 10) as near, pytest.raises(ConnectionResetError):
        near.recv(1)
