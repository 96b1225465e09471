"""The relay is blind: neither its wires nor its memory hold a byte of what it carries.

The payload of each direction is 8 random bytes over and over, so any 15 bytes of it, wherever they
were cut, hold one of 8 needles. Addresses are looked for as text and packed, in
either byte order. Every search proves itself: the same needles are found at the two ends.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.programs.ends import TcpServer, connected
from tests.programs.harness import Program, Suite, wait_for
from tests.programs.recorder import Recorder, find_in_memory

DESTINATION = "127.77.66.55"
SOURCE = "127.88.99.11"
CALM = ("--heartbeat", "5")
"""A look at its memory holds a process up, and is no sign that it is dead."""
HALF = 2 * 1024 * 1024
"""Bytes each way before and after the look at the memory."""


class Payload:
    """Random bytes that repeat, and the needles by which any piece of them is found."""

    def __init__(self) -> None:
        unit = os.urandom(8)
        self.needles = {(unit * 2)[at : at + 8] for at in range(8)}
        self.half = unit * (HALF // 8)


def spellings(host: str, port: int | None) -> set[bytes]:
    """Return the forms in which an address may lie in memory or on a wire."""
    packed = socket.inet_aton(host)
    number = struct.unpack(">I", packed)[0]
    forms = {
        host.encode(),
        host.encode("utf-16-le"),
        host.encode("utf-32-le"),
        host.replace(".", "-").encode(),
        packed.hex().encode(),
        f"::ffff:{packed[:2].hex()}:{packed[2:].hex()}".encode(),
        b"\xff\xff" + packed,  # the end of an IPv4-mapped address
        str(number).encode(),
        packed + bytes(4),  # in a sockaddr
        struct.pack("<I", number) + bytes(2),
    }
    if port is not None:
        forms |= {
            f"{host}:{port}".encode(),
            struct.pack(">H", port) + packed,
            packed + struct.pack(">H", port),
        }
    return forms


class Destination:
    """Answers each connection with its payload, and stops half-way until it is told to go on."""

    def __init__(self, payload: Payload) -> None:
        self._payload = payload
        self.go_on = threading.Event()
        self.received = 0
        self.server = TcpServer(self._serve, DESTINATION)

    def _serve(self, sock: socket.socket) -> None:
        sender = threading.Thread(target=self._send, args=(sock,))
        sender.start()
        while data := sock.recv(1 << 18):
            self.received += len(data)
        sender.join()

    def _send(self, sock: socket.socket) -> None:
        sock.sendall(self._payload.half)
        self.go_on.wait(30)
        sock.sendall(self._payload.half)
        sock.shutdown(socket.SHUT_WR)


@contextmanager
def at_half_time(entrance: tuple[str, int], up: Payload, there: Destination) -> Iterator[None]:
    """Transfer both payloads; the body of the ``with`` runs while half of each is through."""
    received = 0
    sock = socket.create_connection(entrance, 20, source_address=(SOURCE, 0))
    with sock:

        def send() -> None:
            sock.sendall(up.half)
            there.go_on.wait(30)
            sock.sendall(up.half)
            sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        while received < HALF:
            received += len(sock.recv(1 << 18))
        wait_for(lambda: there.received >= HALF, "half of it is there")
        yield
        there.go_on.set()
        while data := sock.recv(1 << 18):
            received += len(data)
        sender.join()
    assert received == 2 * HALF
    wait_for(lambda: there.received == 2 * HALF, "all of it is there")


@pytest.mark.parametrize("forwarder", ["splice", pytest.param("copy", marks=pytest.mark.slow)])
def test_wires_and_memory_of_the_relay_hold_nothing(suite: Suite, forwarder: str) -> None:
    up, down = Payload(), Payload()
    there = Destination(down)
    name = f"hidden-{os.urandom(6).hex()}.example"
    relay = suite.relay("--forwarder", forwarder, "--log-level", "debug", *CALM)
    with (
        there.server as server,
        Recorder(relay.addresses()[0]) as near,
        Recorder(relay.addresses()[0]) as far,
    ):
        port = server.address.port
        addresses = spellings(DESTINATION, port) | spellings(SOURCE, None)
        addresses |= {
            name.encode(),
            name.split(".")[0].encode("utf-16-le"),
            f"{DESTINATION}:{port}".encode(),
        }
        secrets = up.needles | down.needles | addresses
        reverse_proxy = suite.reverse_proxy(far.address)
        entry_point = suite.entry_point(
            near.address, "-r", f"0:{server.address}", "-r", f"0:{name}:{port}"
        )
        entrance, named = entry_point.addresses()

        # A name travels the same way as an address, whether it resolves there or not.
        with pytest.raises(ConnectionResetError), connected(named) as sock:
            sock.recv(1)
        assert name in reverse_proxy.wait_log("outcome=refused")

        with at_half_time((entrance.host, entrance.port), up, there):
            found, searched = find_in_memory(relay, secrets)
            assert not found
            assert searched > 10 * 1024 * 1024
            check_the_search(entry_point, reverse_proxy, up, down, name)
        assert find_in_memory(relay, secrets)[0] == set()
        moved = relay.metrics()
        assert moved["bytes_spliced" if forwarder == "splice" else "bytes_copied"] > 3.8 * HALF

        for wire in (near, far):
            assert wire.size > 4 * HALF
            assert wire.find(secrets) == set()
        for program in (entry_point, reverse_proxy):
            assert SOURCE in program.wait_log("outcome=finished")
        assert not [
            line
            for line in relay.lines
            if any(each.decode("latin-1") in line for each in addresses)
        ]


def check_the_search(
    entry_point: Program, reverse_proxy: Program, up: Payload, down: Payload, name: str
) -> None:
    """The ends of the channel know it all, so there the search has to find it."""
    for program in (entry_point, reverse_proxy):
        found, _ = find_in_memory(program, up.needles | down.needles)
        assert found & up.needles, program.name
        assert found & down.needles, program.name
        texts = {DESTINATION.encode(), SOURCE.encode(), name.encode()}
        assert find_in_memory(program, texts)[0] == texts, program.name


def test_the_recorder_sees_what_is_not_encrypted(suite: Suite) -> None:
    """The control of the wires: on the last leg, to the destination, all is plain."""
    up, down = Payload(), Payload()
    there = Destination(down)
    with there.server as server, Recorder(server.address) as plain:
        *_, entrance = suite.chain(plain.address)
        with at_half_time((entrance.host, entrance.port), up, there):
            pass
        assert plain.find(up.needles | down.needles) == up.needles | down.needles


def test_a_key_stays_in_the_process_that_owns_it(suite: Suite) -> None:
    """The relay has only public keys; a private one is nowhere in its memory."""
    there = Destination(Payload())
    with there.server as server:
        relay, _, entry_point, _ = suite.chain(server.address)
        seed = suite.identity.private_key().private_bytes_raw()
        public = suite.identity.public.raw
        assert find_in_memory(relay, {seed, public})[0] == {public}
        assert find_in_memory(entry_point, {seed, public})[0] == {seed, public}
