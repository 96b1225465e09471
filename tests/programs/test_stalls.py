"""A reader that stalls: it loses nothing, costs nothing, and nobody else notices."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import socket
import statistics
import struct
import termios
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from common.addresses import HostPort
from common.sockets import close_with_reset
from tests.programs.ends import (
    Destination,
    TcpServer,
    connected,
    download,
    receive_reset,
    together,
    upload,
)
from tests.programs.harness import Program, Suite, wait_for

MIB = 1024 * 1024
SIZE = 96 * MIB
"""More than the kernel's buffers on all four legs hold together."""
COST_KIB = 1024
"""What a stalled reader may cost over all programs: what was promised. Measured: 536."""


class Writer:
    """Uploads in a thread; says how it goes on."""

    def __init__(self, threads: ThreadPoolExecutor, sock: socket.socket, size: int = SIZE) -> None:
        sock.settimeout(None)
        self.sock = sock
        self.result: Future[str] = threads.submit(upload, sock, size)

    def is_stalled(self) -> bool:
        """Whether the kernel has taken nothing for a while, and more is to come."""
        assert not self.result.done()
        before = _unsent(self.sock)
        time.sleep(0.2)
        return before > 0 and _unsent(self.sock) == before


def _unsent(sock: socket.socket) -> int:
    (count,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    return int(count)


def resident_kib(programs: tuple[Program, ...]) -> int:
    return sum(each.resident_kib() for each in programs)


def latency_s(address: HostPort) -> float:
    """The median time of a 64-byte question and its answer."""
    times = []
    with connected(address) as sock:
        for _ in range(300):
            began = time.perf_counter()
            sock.sendall(bytes(64))
            assert sock.recv(64, socket.MSG_WAITALL) == bytes(64)
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def transfer_s(address: HostPort) -> float:
    """The time that 32 MiB there and back take."""
    with connected(address) as sock:
        began = time.perf_counter()
        sent, got = together(
            lambda: upload(sock, 32 * MIB),
            lambda: download(sock, 32 * MIB),
        )
        assert sent == got
        return time.perf_counter() - began


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.mark.parametrize(
    ("heartbeat_s", "stall_s"),
    [
        pytest.param(0.5, 8.0, id="16 heartbeats"),
        pytest.param(10.0, 600.0, id="ten minutes", marks=[pytest.mark.slow]),
        pytest.param(0.5, 600.0, id="1200 heartbeats", marks=[pytest.mark.slow]),
    ],
)
@pytest.mark.timeout(900)
def test_a_stalled_reader(
    suite: Suite,
    echo_server: TcpServer,
    threads: ThreadPoolExecutor,
    heartbeat_s: float,
    stall_s: float,
) -> None:
    """A source that does not read, a destination that does not, and a stream stuck both ways."""
    with Destination() as destination, ExitStack() as stack:
        relay = suite.relay("--heartbeat", str(heartbeat_s))
        programs = (
            relay,
            suite.reverse_proxy(relay),
            entry_point := suite.entry_point(
                relay,
                *("-r", f"0:{destination.address}", "-r", f"0:{echo_server.address}"),
                channels=8,
            ),
        )
        stalling_at, echo_at = entry_point.addresses()
        transfer_s(echo_at)  # every buffer there is has been touched
        transfer_before_s, latency_before_s = transfer_s(echo_at), latency_s(echo_at)
        before_kib = resident_kib(programs)

        (one, far_one), (two, far_two), (three, far_three) = (
            stack.enter_context(destination.stream(stalling_at)) for _ in range(3)
        )
        writers = [Writer(threads, sock) for sock in (one, far_two, three, far_three)]
        readers = [far_one, two, far_three, three]
        began = time.monotonic()
        for writer in writers:
            wait_for(writer.is_stalled, "back-pressure stops the writer")

        transfer_while_s, latency_while_s = transfer_s(echo_at), latency_s(echo_at)
        time.sleep(max(0.0, began + stall_s - time.monotonic()))
        cost_kib = resident_kib(programs) - before_kib
        assert all(not writer.result.done() for writer in writers)
        assert entry_point.metric("streams_failed") == 0

        for reader in readers:
            reader.settimeout(30)
        digests = [threads.submit(download, reader, SIZE) for reader in readers]
        for writer, digest in zip(writers, digests, strict=True):
            assert digest.result(60) == writer.result.result(60)
        print(
            f"cost of {len(readers)}: {cost_kib} KiB; "
            f"transfer {transfer_before_s:.3f} -> {transfer_while_s:.3f} s; "
            f"latency {latency_before_s * 1e6:.0f} -> {latency_while_s * 1e6:.0f} us"
        )
        assert cost_kib <= COST_KIB * len(readers)
        assert transfer_while_s < 3 * transfer_before_s + 0.2
        assert latency_while_s < 3 * latency_before_s + 0.001
        assert entry_point.metric("streams_failed") == 0


@pytest.mark.parametrize("quitter", ["source", "destination"])
@pytest.mark.parametrize("stuck", ["one way", "both ways"])
def test_a_reset_while_everything_is_stalled_is_noticed(
    suite: Suite, threads: ThreadPoolExecutor, quitter: str, stuck: str
) -> None:
    """The writer gives up; the reader, who takes nothing, must hear of it behind all that waits."""
    with Destination() as destination:
        relay, reverse_proxy, entry_point, entrance = suite.chain(destination.address)
        with destination.stream(entrance) as (source, far):
            writing, reading = (source, far) if quitter == "source" else (far, source)
            # Not a thread that waits in the kernel with the socket: it could not be closed then.
            writing.setblocking(False)
            others = [Writer(threads, reading)] if stuck == "both ways" else []
            wait_for(lambda: fill(writing) == 0, "back-pressure stops the writer", step_s=0.2)
            for each in others:
                wait_for(each.is_stalled, "back-pressure, the other way")
            close_with_reset(writing)
            entry_point.wait_metric("streams_failed", lambda count: count == 1, 5)
            reverse_proxy.wait_metric("streams_failed", lambda count: count == 1, 5)
            relay.wait_metric("pairs_ended", lambda count: count >= 1, 5)
            for each in others:
                with pytest.raises(ConnectionError):
                    each.result.result(5)
            if not others:
                assert receive_reset(reading) > 0
        entry_point.wait_log(f"outcome=(reset-by-{quitter}|lost)")
        assert "outcome=finished" not in entry_point.log + reverse_proxy.log


def fill(sock: socket.socket) -> int:
    """Write until the kernel takes no more; return how many bytes it took."""
    count = 0
    try:
        while True:
            count += sock.send(bytes(256 * 1024))
    except BlockingIOError:
        return count


def test_a_slow_reader_gets_everything(suite: Suite) -> None:
    """A trickle: every heartbeat a little room, and hundreds of pauses and resumptions."""
    size = 24 * MIB
    with Destination() as destination:
        *_, entrance = suite.chain(destination.address)
        with destination.stream(entrance) as (source, far):
            sent: list[str] = []

            def send() -> None:
                sent.append(upload(far, size))
                far.shutdown(socket.SHUT_WR)

            sender = threading.Thread(target=send)
            sender.start()
            source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            digest = hashlib.sha256()
            while data := source.recv(48 * 1024):
                digest.update(data)
                time.sleep(0.002)
            sender.join()
        assert digest.hexdigest() == sent[0]


def slow_path(relay: Program) -> TcpServer:
    """A way to the relay that takes some 10 MB/s in each direction of each connection."""

    def pump(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(32 * 1024):
                other.sendall(data)
                time.sleep(len(data) / 10e6)
            other.shutdown(socket.SHUT_WR)

    def join(sock: socket.socket) -> None:
        address = relay.addresses()[0]
        with socket.create_connection((address.host, address.port)) as onward:
            back = threading.Thread(target=pump, args=(onward, sock), daemon=True)
            back.start()
            pump(sock, onward)
            back.join()

    return TcpServer(join)


@pytest.mark.parametrize("writing", [pytest.param("source", marks=pytest.mark.slow), "destination"])
def test_a_long_transfer_one_way_is_not_silence(suite: Suite, writing: str) -> None:
    """The writer's path is full all the time and its reader never stalls: ten heartbeats of it."""
    with Destination() as destination:
        relay = suite.relay("--heartbeat", "0.3")
        with slow_path(relay) as path:
            suite.reverse_proxy(path.address)
            entry_point = suite.entry_point(path.address, "-r", f"0:{destination.address}")
            with destination.stream(entry_point.addresses()[0]) as (source, far):
                writer, reader = (source, far) if writing == "source" else (far, source)
                began = time.monotonic()
                sent, got = together(
                    lambda: upload(writer, 24 * MIB), lambda: download(reader, 24 * MIB)
                )
            assert sent == got
            assert time.monotonic() - began > 2
            for program in (relay, entry_point):
                program.end()
