"""What a stream keeps, whichever way its bytes move: the same tests for every shape of the suite.

A shape is how the relay forwards and which event loop the programs run on; the relay's counters
say at the end of each test that the bytes went the way the shape is named after.
"""

from __future__ import annotations

import hashlib
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from common.addresses import HostPort
from common.sockets import close_with_reset
from tests.programs.ends import (
    Destination,
    TcpServer,
    be_refused,
    connected,
    download,
    echo,
    free_port,
    receive_all,
    receive_reset,
    together,
    upload,
)
from tests.programs.harness import Program, Suite

MIB = 1024 * 1024
PAUSE_S = 2.0
"""How long a half-closed stream is silent: four heartbeats."""
RESETS = 20

HAS_IPV6 = socket.has_ipv6 and os.path.exists("/proc/net/if_inet6")


def send_until_reset(sock: socket.socket) -> None:
    """Write until the other side's RST; a stall or any other error is a failure."""
    with pytest.raises(ConnectionResetError):
        upload(sock, sys.maxsize)


@dataclass(frozen=True)
class Shape:
    """How bytes move."""

    forwarder: str
    loop: str

    @property
    def moved(self) -> str:
        return "bytes_spliced" if self.forwarder == "splice" else "bytes_copied"


SHAPES = [Shape("splice", "uvloop"), Shape("copy", "asyncio")]


@dataclass
class Stage:
    """A running suite whose routes lead to one destination, by its address and by other ways."""

    shape: Shape
    relay: Program
    reverse_proxy: Program
    entry_point: Program
    destination: Destination
    ipv6: Destination | None
    entrance: HostPort
    by_name: HostPort
    refusing: HostPort
    by_ipv6: HostPort | None


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: f"{shape.forwarder}-{shape.loop}")
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    shape: Shape = request.param
    loop = ("--event-loop", shape.loop)
    ipv6 = Destination("::1") if HAS_IPV6 else None
    with Suite(tmp_path_factory.mktemp(shape.loop)) as suite, Destination() as destination:
        relay = suite.relay("--forwarder", shape.forwarder, *loop)
        reverse_proxy = suite.reverse_proxy(relay, *loop)
        targets = [
            str(destination.address),
            f"localhost:{destination.address.port}",
            f"127.0.0.1:{free_port()}",
            *([f"[::1]:{ipv6.address.port}"] if ipv6 else []),
        ]
        routes = [part for target in targets for part in ("-r", f"0:{target}")]
        entry_point = suite.entry_point(relay, *loop, *routes, channels=8)
        entrance, by_name, refusing, *rest = entry_point.addresses()
        yield Stage(
            shape,
            relay,
            reverse_proxy,
            entry_point,
            destination,
            ipv6,
            entrance,
            by_name,
            refusing,
            rest[0] if rest else None,
        )
        if ipv6:
            ipv6.__exit__()


@pytest.fixture
def stage(running: Stage) -> Iterator[Stage]:
    """The suite; after the test its bytes must have moved the way the shape says."""
    before = sum(map(running.relay.metric, ("bytes_spliced", "bytes_copied")))
    yield running
    assert sum(map(running.relay.metric, ("bytes_spliced", "bytes_copied"))) > before
    if running.shape.forwarder == "copy":  # small messages are copied where splice works, too
        assert running.relay.metric("bytes_spliced") == 0
    assert (running.relay.metric("splice_calls") > 0) is (running.shape.forwarder == "splice")
    assert not [line for line in running.relay.lines if "internal error" in line]


def test_64_mib_both_ways_at_once(stage: Stage) -> None:
    with stage.destination.stream(stage.entrance) as (source, destination):

        def say(sock: socket.socket) -> str:
            digest = upload(sock, 64 * MIB)
            sock.shutdown(socket.SHUT_WR)
            return digest

        sent, returned, got, came_back = together(
            lambda: say(source),
            lambda: say(destination),
            lambda: download(destination),
            lambda: download(source),
        )
    assert (got, came_back) == (sent, returned)


@pytest.mark.parametrize("first", ["source", "destination"])
def test_whoever_ends_its_own_direction_still_gets_everything(stage: Stage, first: str) -> None:
    """Half-close, and 64 MiB the other way two seconds later."""
    with stage.destination.stream(stage.entrance) as (source, destination):
        early, late = (source, destination) if first == "source" else (destination, source)
        early.sendall(b"question")
        early.shutdown(socket.SHUT_WR)
        assert receive_all(late) == b"question"
        time.sleep(PAUSE_S)

        def answer() -> str:
            digest = upload(late, 64 * MIB)
            late.shutdown(socket.SHUT_WR)
            return digest

        sent, got = together(answer, lambda: download(early))
    assert got == sent


@pytest.mark.parametrize("first", ["source", "destination"])
def test_the_end_of_a_half_closed_stream_may_be_a_reset(stage: Stage, first: str) -> None:
    with stage.destination.stream(stage.entrance) as (source, destination):
        early, late = (source, destination) if first == "source" else (destination, source)
        early.shutdown(socket.SHUT_WR)
        assert receive_all(late) == b""
        late.sendall(b"not all")
        assert early.recv(7) == b"not all"
        close_with_reset(late)
        assert receive_reset(early) == 0


@pytest.mark.parametrize("resetting", ["source", "destination"])
def test_a_reset_of_an_idle_stream_reaches_the_other_side(stage: Stage, resetting: str) -> None:
    for _ in range(RESETS):
        with stage.destination.stream(stage.entrance) as (source, destination):
            source.sendall(b"x")
            assert destination.recv(1) == b"x"
            ends = (source, destination) if resetting == "source" else (destination, source)
            close_with_reset(ends[0])
            assert receive_reset(ends[1]) == 0


@pytest.mark.parametrize("writing", ["source", "destination"])
def test_a_writer_that_resets_mid_transfer(stage: Stage, writing: str) -> None:
    chance = random.Random(writing)
    for _ in range(RESETS):
        with stage.destination.stream(stage.entrance) as (source, destination):
            writer, reader = (source, destination) if writing == "source" else (destination, source)
            size = chance.randrange(1, 4 * MIB)

            def write(sock: socket.socket = writer, size: int = size) -> int:
                upload(sock, size)
                close_with_reset(sock)
                return 0

            _, got = together(write, partial(receive_reset, reader))
            assert got <= size


@pytest.mark.parametrize("writing", ["source", "destination"])
def test_a_reader_that_resets_mid_transfer(stage: Stage, writing: str) -> None:
    chance = random.Random(writing)
    for _ in range(RESETS):
        with stage.destination.stream(stage.entrance) as (source, destination):
            writer, reader = (source, destination) if writing == "source" else (destination, source)
            size = chance.randrange(1, 4 * MIB)

            def read(sock: socket.socket = reader, size: int = size) -> None:
                download(sock, size)
                close_with_reset(sock)

            together(partial(send_until_reset, writer), read)


def test_a_destination_that_refuses_is_a_reset_at_once(stage: Stage) -> None:
    stage.entry_point.wait_metric("channels_idle", lambda count: count >= 8)
    channels = stage.entry_point.metric("channels_opened")
    for _ in range(20):
        began = time.monotonic()
        be_refused(stage.refusing)
        assert time.monotonic() - began < 1
    assert stage.entry_point.metric("channels_opened") == channels


def test_a_refused_upload_is_reset_and_the_channel_serves_the_next(stage: Stage) -> None:
    """What the source had sent already is taken in, and nobody else ever sees it."""
    for _ in range(5):
        with pytest.raises(ConnectionResetError), connected(stage.refusing) as source:
            upload(source, sys.maxsize)
        with stage.destination.stream(stage.entrance) as (source, destination):
            source.sendall(b"next")
            source.shutdown(socket.SHUT_WR)
            assert receive_all(destination) == b"next"


def test_a_name_is_resolved_beside_the_reverse_proxy(stage: Stage) -> None:
    with stage.destination.stream(stage.by_name) as (source, destination):
        source.sendall(b"by name")
        source.shutdown(socket.SHUT_WR)
        assert receive_all(destination) == b"by name"


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
def test_an_ipv6_destination(stage: Stage) -> None:
    assert stage.ipv6 is not None
    assert stage.by_ipv6 is not None
    with stage.ipv6.stream(stage.by_ipv6) as (source, destination):
        source.sendall(b"by IPv6")
        source.shutdown(socket.SHUT_WR)
        assert receive_all(destination) == b"by IPv6"


def test_single_bytes_keep_their_order(stage: Stage) -> None:
    text = os.urandom(3000)
    with stage.destination.stream(stage.entrance) as (source, destination):

        def say(sock: socket.socket) -> None:
            for byte in text:
                sock.sendall(bytes([byte]))
            sock.shutdown(socket.SHUT_WR)

        _, _, got, returned = together(
            lambda: say(source),
            lambda: say(destination),
            lambda: receive_all(destination),
            lambda: receive_all(source),
        )
    assert got == returned == text


def test_the_destination_may_speak_first(stage: Stage) -> None:
    with stage.destination.stream(stage.entrance) as (source, destination):
        destination.sendall(b"220 ready\r\n")
        assert source.recv(100) == b"220 ready\r\n"
        source.sendall(b"QUIT\r\n")
        assert destination.recv(100) == b"QUIT\r\n"


@pytest.mark.parametrize("first", ["source", "destination"])
def test_a_stream_without_a_byte_ends_cleanly(stage: Stage, first: str) -> None:
    for _ in range(20):
        with stage.destination.stream(stage.entrance) as (source, destination):
            early, late = (source, destination) if first == "source" else (destination, source)
            early.close()
            assert receive_all(late) == b""


def test_all_of_the_last_bytes_arrive_when_the_sender_closes_at_once(stage: Stage) -> None:
    """close() right after the last write, no shutdown: what the kernel has is still delivered."""
    for _ in range(20):
        with stage.destination.stream(stage.entrance) as (source, destination):
            sender = threading.Thread(target=lambda sock=source: (upload(sock, MIB), sock.close()))
            sender.start()
            assert len(receive_all(destination)) == MIB
            sender.join()


@pytest.mark.parametrize(
    "shape",
    [SHAPES[0], pytest.param(SHAPES[1], marks=pytest.mark.slow)],
    ids=lambda shape: f"{shape.forwarder}-{shape.loop}",
)
def test_200_clients_at_once_from_an_idle_start(suite: Suite, shape: Shape) -> None:
    """A pool of 8 has to grow twenty-five-fold while they wait; none is refused."""
    clients, size = 200, 64 * 1024
    loop = ("--event-loop", shape.loop)
    with TcpServer(echo) as server:
        relay = suite.relay("--forwarder", shape.forwarder, *loop)
        suite.reverse_proxy(relay, *loop)
        entry_point = suite.entry_point(relay, "-r", f"0:{server.address}", *loop, channels=8)
        entrance = entry_point.addresses()[0]
        all_here = threading.Barrier(clients)

        def client() -> bool:
            payload = os.urandom(size)
            all_here.wait(20)
            with connected(entrance) as sock:
                sock.sendall(payload)
                equal = download(sock, size) == hashlib.sha256(payload).hexdigest()
                all_here.wait(20)  # nobody leaves before everybody has been served
                sock.shutdown(socket.SHUT_WR)
                return equal and receive_all(sock) == b""

        assert together(*[client] * clients) == [True] * clients
        entry_point.wait_metric("streams_finished", lambda count: count == clients)
        assert entry_point.metric("streams_failed") == 0
        assert entry_point.metric("channels_opened") >= clients
        assert relay.metric(shape.moved) > 1.8 * clients * size


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.forwarder}-{shape.loop}")
def test_sources_that_wait_for_the_first_channel_of_all(suite: Suite, shape: Shape) -> None:
    """Their first bytes go out right behind the handshake of the channel."""
    clients, size = 8, 8 * MIB
    loop = ("--event-loop", shape.loop)
    with TcpServer(echo) as server:
        relay = suite.relay("--forwarder", shape.forwarder, *loop)
        entry_point = suite.entry_point(relay, "-r", f"0:{server.address}", *loop, channels=0)
        entrance = entry_point.addresses()[0]

        def client() -> bool:
            with connected(entrance) as sock:
                sent, got = together(partial(upload, sock, size), partial(download, sock, size))
                return sent == got

        def join() -> bool:
            entry_point.wait_metric("sources_waiting", lambda count: count == clients)
            suite.reverse_proxy(relay, *loop)
            return True

        assert together(*[client] * clients, join) == [True] * (clients + 1)
