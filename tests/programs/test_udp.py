"""Datagrams through the three real programs: boundaries, order, flows, ends and failures."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from common.addresses import HostPort
from tests.programs.ends import free_port
from tests.programs.harness import DEADLINE_S, Program, Suite, wait_for

LARGEST = 65507


class UdpServer:
    """Answers each datagram with ``answer(data)`` in a thread; none is answered with nothing."""

    def __init__(self, port: int = 0) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.bind(("127.0.0.1", port))
        self.sock.settimeout(0.1)
        self.address = HostPort(*self.sock.getsockname())
        self.sources: set[tuple[str, int]] = set()
        self._ending = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def answer(self, data: bytes) -> bytes:
        return data

    def _serve(self) -> None:
        while not self._ending:
            try:
                data, source = self.sock.recvfrom(65536)
            except TimeoutError:
                continue
            self.sources.add(source)
            self.sock.sendto(self.answer(data), source)

    def close(self) -> None:
        self._ending = True
        self._thread.join(5)
        self.sock.close()

    def __enter__(self) -> UdpServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def client(address: HostPort) -> Iterator[socket.socket]:
    """A connected UDP socket; a wait for an answer has a deadline."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.connect((address.host, address.port))
        sock.settimeout(DEADLINE_S)
        yield sock


def ask(sock: socket.socket, data: bytes) -> bytes:
    sock.send(data)
    return sock.recv(65536)


def answered(sock: socket.socket, data: bytes) -> bool:
    """Ask until an answer to ``data`` comes, as clients of UDP do."""
    sock.settimeout(0.3)

    def once() -> bool:
        try:
            return ask(sock, data) == data
        except (TimeoutError, ConnectionRefusedError):
            return False

    return wait_for(once, "an answer")


def udp_address(program: Program) -> HostPort:
    """Where it takes datagrams, by its ready line."""
    found = re.search(r"127\.0\.0\.1:(\d+)/udp", program.ready())
    assert found, program.ready()
    return HostPort("127.0.0.1", int(found[1]))


def chain(suite: Suite, destination: HostPort, *args: str) -> tuple[Program, Program, Program]:
    relay = suite.relay()
    reverse_proxy = suite.reverse_proxy(relay)
    entry_point = suite.entry_point(relay, "-r", f"0:{destination}/udp", *args)
    return relay, reverse_proxy, entry_point


def test_boundaries_are_kept_from_nothing_to_the_largest_datagram(suite: Suite) -> None:
    with UdpServer() as server:
        *_, entry_point = chain(suite, server.address)
        with client(udp_address(entry_point)) as sock:
            for size in (0, 1, 2, 511, 512, 1472, 1473, 4096, 16384, 65506, LARGEST):
                data = os.urandom(size)
                assert ask(sock, data) == data
    assert len(server.sources) == 1


def test_a_thousand_flows_each_get_their_own_answers_in_order(suite: Suite) -> None:
    with UdpServer() as server, ExitStack() as stack:
        _, reverse_proxy, entry_point = chain(suite, server.address)
        address = udp_address(entry_point)
        socks = [stack.enter_context(client(address)) for _ in range(1000)]
        for turn in range(3):
            for start in range(0, len(socks), 50):  # no more at once than the kernel holds
                some = list(enumerate(socks))[start : start + 50]
                for number, sock in some:
                    for part in range(2):
                        sock.send(struct.pack(">III", number, turn, part))
                for number, sock in some:
                    for part in range(2):
                        assert struct.unpack(">III", sock.recv(64)) == (number, turn, part)
        assert len(server.sources) == 1000
        assert entry_point.metric("flows_opened") == 1000
        assert entry_point.metric("datagrams_dropped") == 0
        assert reverse_proxy.metric("flows_opened") == 1000


@pytest.mark.slow
def test_ten_thousand_sources_cost_a_bounded_amount(suite: Suite) -> None:
    with UdpServer() as server:
        _, reverse_proxy, entry_point = chain(suite, server.address)
        address = udp_address(entry_point)
        before = entry_point.resident_kib(), reverse_proxy.resident_kib()
        for start in range(0, 10_000, 50):
            with ExitStack() as stack:
                for number in range(start, start + 50):
                    sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    # Another address for each hundred: a port comes again too soon.
                    sock.bind((f"127.0.{1 + number // 100}.1", 0))
                    sock.connect((address.host, address.port))
                    sock.send(b"spoofed")
                sock.settimeout(DEADLINE_S)
                sock.recv(64)
        entry_point.wait_metric("flows_opened", lambda count: count >= 9_900)
        assert entry_point.metric("flows_evicted") >= 8_000
        wait_for(lambda: reverse_proxy.descriptors() < 2200, "flows are forgotten at the far end")
        for program, kib in zip((entry_point, reverse_proxy), before, strict=True):
            assert program.resident_kib() - kib < 32 * 1024
        with client(address) as sock:
            assert ask(sock, b"still there") == b"still there"


def test_an_idle_flow_is_over_and_the_channel_is_used_again(suite: Suite) -> None:
    with UdpServer() as server:
        _, reverse_proxy, entry_point = chain(suite, server.address, "--udp-idle", "1")
        with client(udp_address(entry_point)) as sock:
            assert ask(sock, b"one") == b"one"
            entry_point.wait_metric("streams_open", lambda count: count == 0)
            reverse_proxy.wait_metric("streams_finished", lambda count: count == 1)
            assert ask(sock, b"two") == b"two"
    assert len(server.sources) == 2
    assert entry_point.metric("channels_closed") == 0


def test_a_destination_that_comes_late_is_reached_by_the_same_flow(suite: Suite) -> None:
    """Nobody listens: ICMP says so, and the flow's socket goes on all the same."""
    port = free_port()
    *_, entry_point = chain(suite, HostPort("127.0.0.1", port))
    with client(udp_address(entry_point)) as sock:
        for _ in range(5):
            sock.send(b"nobody")
            time.sleep(0.02)  # the ICMP errors come one by one
        with UdpServer(port):
            assert answered(sock, b"somebody")
    assert entry_point.metric("flows_opened") == 1


@pytest.mark.parametrize("which", [0, 1, 2], ids=["relay", "reverse-proxy", "entry-point"])
def test_a_killed_program_costs_datagrams_and_no_more(suite: Suite, which: int) -> None:
    with UdpServer() as server:
        port = free_port()
        relay = suite.relay(port=port)
        reverse_proxy = suite.reverse_proxy(relay)
        listen = free_port()
        route = ("-r", f"{listen}:{server.address}/udp")
        entry_point = suite.entry_point(relay, *route)
        address = udp_address(entry_point)
        with client(address) as sock:
            assert ask(sock, b"before") == b"before"
            (relay, reverse_proxy, entry_point)[which].kill()
            if which == 0:
                relay = suite.relay(port=port)
            elif which == 1:
                suite.reverse_proxy(relay)
            else:
                suite.entry_point(relay, *route)
            assert answered(sock, b"after")


def test_a_reverse_proxy_that_drains_is_left_by_a_flow_that_never_rests(suite: Suite) -> None:
    with UdpServer() as server:
        relay, reverse_proxy, entry_point = chain(suite, server.address)
        suite.reverse_proxy(relay)
        entry_point.wait_metric("channels_idle", lambda count: count >= 1)
        with client(udp_address(entry_point)) as sock:
            assert answered(sock, b"before")
            reverse_proxy.process.terminate()
            assert reverse_proxy.wait() == 0
            assert answered(sock, b"after")


@pytest.mark.parametrize("count", [3000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_datagrams_of_any_size_come_whole_and_in_order(suite: Suite, count: int) -> None:
    """In a window that the path holds; what is lost is counted, by the kernel or by us."""
    window = 8
    generator = random.Random(7)
    block = os.urandom(LARGEST * 2)
    with UdpServer() as server:
        _, reverse_proxy, entry_point = chain(suite, server.address)
        sizes: dict[int, int] = {}
        got, last, total = 0, -1, 0
        started = time.monotonic()
        with client(udp_address(entry_point)) as sock:
            sock.settimeout(2)
            for start in range(0, count, window):
                for number in range(start, min(start + window, count)):
                    size = sizes[number] = generator.randint(8, LARGEST)
                    sock.send(number.to_bytes(8, "big") + block[number % LARGEST :][: size - 8])
                for _ in range(start, min(start + window, count)):
                    try:
                        data = sock.recv(65536)
                    except TimeoutError:
                        break
                    number = int.from_bytes(data[:8], "big")
                    assert number > last
                    assert len(data) == sizes[number]
                    assert data[8:] == block[number % LARGEST :][: len(data) - 8]
                    last, got, total = number, got + 1, total + len(data)
        seconds = time.monotonic() - started
        dropped = entry_point.metric("datagrams_dropped") + reverse_proxy.metric(
            "datagrams_dropped"
        )
        print(
            f"{got} of {count} answered in {seconds:.1f} s, {got / seconds:.0f}/s,"
            f" {total * 8 / seconds / 1e6:.0f} Mbit/s each way; {dropped:.0f} counted as dropped"
        )
        assert got >= 0.99 * count


class NameServer(UdpServer):
    """Answers every question with 192.0.2.53 (RFC 1035, section 4)."""

    def answer(self, data: bytes) -> bytes:
        name_end = data.index(0, 12) + 1
        question = data[12 : name_end + 4]
        header = data[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
        record = struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton("192.0.2.53")
        return header + question + record


@pytest.mark.skipif(shutil.which("dig") is None, reason="dig is missing")
def test_dig_asks_a_name_server(suite: Suite) -> None:
    with NameServer() as server:
        *_, entry_point = chain(suite, server.address)
        port = udp_address(entry_point).port
        for number in range(5):
            done = subprocess.run(
                ["dig", "@127.0.0.1", "-p", str(port), "+short", f"name{number}.example", "A"],
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
                check=True,
            )
            assert done.stdout.strip() == "192.0.2.53"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("iperf3") is None, reason="iperf3 is missing")
def test_iperf3_measures_a_path_of_datagrams(suite: Suite) -> None:
    """Its control connection is TCP, on the same port."""
    port, listen = free_port(), free_port()
    serving = subprocess.Popen(
        ["iperf3", "-s", "-1", "-B", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL
    )
    try:
        relay = suite.relay()
        suite.reverse_proxy(relay)
        routes = f"{listen}:127.0.0.1:{port},{listen}:127.0.0.1:{port}/udp"
        suite.entry_point(relay, "-r", routes)
        done = subprocess.run(
            [
                *("iperf3", "-c", "127.0.0.1", "-p", str(listen), "-J"),
                *("-u", "-b", "50M", "-l", "1400", "-t", "3"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    finally:
        serving.terminate()
        serving.wait(10)
    total = json.loads(done.stdout)["end"]["sum"]
    print(f"{total['packets']} datagrams, {total['lost_percent']:.2f} % lost")
    assert total["packets"] > 10_000
    assert total["lost_percent"] < 2


def test_a_refused_destination_is_told_and_others_go_on(suite: Suite) -> None:
    with UdpServer() as server:
        relay = suite.relay()
        suite.reverse_proxy(relay)
        guarded = suite.entry_point(relay, "-r", "0:169.254.169.254:53/udp")
        with client(udp_address(guarded)) as sock:
            sock.send(b"metadata?")
            guarded.wait_log("guarded-address")
        fine = suite.entry_point(relay, "-r", f"0:{server.address}/udp")
        with client(udp_address(fine)) as sock:
            assert ask(sock, b"fine") == b"fine"
