"""Programs join, are killed, fall silent and come back: nobody hangs, nobody sees a false end."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest

from common.addresses import HostPort
from tests.programs.ends import (
    Destination,
    TcpServer,
    connected,
    echo,
    free_port,
    receive_reset,
    together,
    upload,
)
from tests.programs.harness import Program, Suite, wait_for

NOTICED_S = 5.0
"""For the end of a stream when a program has vanished; silence is noticed after 3 heartbeats, which
are half a second each here."""
HEALED_S = 8.0
"""For the first stream after a program is back: a try of the backoff, and two handshakes."""


def exchange(entrance: HostPort, deadline_s: float = HEALED_S) -> float:
    """One short connection to an echo; return the seconds that it took."""
    began = time.monotonic()
    with connected(entrance, deadline_s) as sock:
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100) == b"hello"
        assert sock.recv(100) == b""
    return time.monotonic() - began


def ends_by_reset(sock: socket.socket) -> None:
    """Wait for the RST, in time, whatever was under way."""
    sock.settimeout(NOTICED_S)
    receive_reset(sock)


@contextmanager
def held(
    destination: Destination, entrance: HostPort, count: int
) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Yield both ends of ``count`` streams that have carried a byte each way."""
    with ExitStack() as stack:
        streams = [stack.enter_context(destination.stream(entrance)) for _ in range(count)]
        for source, far in streams:
            assert still_open(source, far)
        yield streams


def still_open(source: socket.socket, far: socket.socket) -> bool:
    source.sendall(b"?")
    if far.recv(1) != b"?":
        return False
    far.sendall(b"!")
    return source.recv(1) == b"!"


def outlived(source: socket.socket, far: socket.socket) -> bool:
    """Whether the stream still carries bytes; if not, it must have been reset."""
    try:
        assert still_open(source, far)
    except ConnectionResetError:
        return False
    return True


def upload_until_it_ends(sock: socket.socket) -> None:
    with pytest.raises(ConnectionError):
        upload(sock, 1 << 40)


def spread(reverse_proxies: list[Program]) -> list[float]:
    return [each.metric("streams_opened") for each in reverse_proxies]


class TestJoining:
    def test_newcomers_to_a_busy_group(self, suite: Suite) -> None:
        """Entry-points and a reverse-proxy join while streams run and come and go."""
        with Destination() as destination, TcpServer(echo) as server, ExitStack() as stack:
            relay = suite.relay()
            routes = ("-r", f"0:{destination.address}", "-r", f"0:{server.address}")
            first = suite.reverse_proxy(relay)
            one = suite.entry_point(relay, *routes, channels=8)
            held_at, echo_at = one.addresses()
            running = stack.enter_context(held(destination, held_at, 24))

            leaving = threading.Event()
            slowest = [0.0]

            def keep_busy() -> None:
                while not leaving.is_set():
                    slowest[0] = max(slowest[0], exchange(echo_at))

            busy = threading.Thread(target=keep_busy)
            busy.start()
            try:
                others = [suite.entry_point(relay, *routes) for _ in range(2)]
                for each in others:
                    entrance = each.addresses()[1]
                    assert max(together(*[partial(exchange, entrance)] * 12)) < NOTICED_S

                second = suite.reverse_proxy(relay)
                second.wait_metric("links_pending", lambda count: count >= 8)
                before = spread([first, second])
                newcomers = [
                    stack.enter_context(held(destination, each.addresses()[0], 20))
                    for each in (one, *others)
                ]
                after = spread([first, second])
                gained = [late - early for early, late in zip(before, after, strict=True)]
                assert sum(gained) >= 60
                assert min(gained) > max(gained) / 5, gained
            finally:
                leaving.set()
                busy.join(HEALED_S)
            assert not busy.is_alive()
            assert slowest[0] < NOTICED_S
            for source, far in running + [pair for group in newcomers for pair in group]:
                assert still_open(source, far)

    def test_two_reverse_proxies_share_from_the_start(self, suite: Suite) -> None:
        with Destination() as destination:
            relay = suite.relay()
            both = [suite.reverse_proxy(relay) for _ in range(2)]
            entry_point = suite.entry_point(relay, "-r", f"0:{destination.address}", channels=8)
            with held(destination, entry_point.addresses()[0], 30):
                few, many = sorted(spread(both))
                assert few + many == 30
                assert few >= 10


class TestKilled:
    @pytest.mark.parametrize("victim", ["relay-server", "reverse-proxy", "entry-point"])
    def test_busy(self, suite: Suite, victim: str) -> None:
        """Streams end with a RST at both ends; when the program is back, everything is."""
        with Destination() as destination, TcpServer(echo) as server:
            programs, again, (held_at, echo_at) = self.start(suite, destination, server)
            with held(destination, held_at, 4) as streams:
                (idle, far_idle), (writing, stuck), (reading, far), (half, far_half) = streams
                half.shutdown(socket.SHUT_WR)
                assert far_half.recv(1) == b""
                writers = [
                    threading.Thread(target=upload_until_it_ends, args=(sock,))
                    for sock in (writing, far)
                ]
                for thread in writers:
                    thread.start()
                assert reading.recv(1 << 20)
                assert stuck.recv(1 << 20)
                programs[victim].kill()
                for sock in (idle, far_idle, stuck, reading, half):
                    ends_by_reset(sock)
                for thread in writers:
                    thread.join(NOTICED_S)
                    assert not thread.is_alive()
                # It has been told the clean end of the other direction, so only writing can fail.
                upload_until_it_ends(far_half)
            again[victim]()
            exchange(echo_at)

    @pytest.mark.parametrize("victim", ["relay-server", "reverse-proxy", "entry-point"])
    def test_idle(self, suite: Suite, victim: str) -> None:
        with Destination() as destination, TcpServer(echo) as server:
            programs, again, (_, echo_at) = self.start(suite, destination, server)
            exchange(echo_at)
            programs[victim].kill()
            again[victim]()
            exchange(echo_at)

    def start(
        self, suite: Suite, destination: Destination, server: TcpServer
    ) -> tuple[dict[str, Program], dict[str, Callable[[], Program]], tuple[HostPort, HostPort]]:
        """Start all three; return them, what starts each again, and where sources connect."""
        relay_at = HostPort("127.0.0.1", free_port())
        ports = free_port(), free_port()
        again: dict[str, Callable[[], Program]] = {
            "relay-server": lambda: suite.relay(port=relay_at.port),
            "reverse-proxy": lambda: suite.reverse_proxy(relay_at),
            "entry-point": lambda: suite.entry_point(
                relay_at,
                *("-r", f"{ports[0]}:{destination.address}"),
                *("-r", f"{ports[1]}:{server.address}"),
                channels=0,
            ),
        }
        programs = {name: start() for name, start in again.items()}
        programs["entry-point"].wait_metric("channels_idle", lambda count: count >= 8)
        held_at, echo_at = programs["entry-point"].addresses()
        return programs, again, (held_at, echo_at)

    def test_a_reverse_proxy_of_two(self, suite: Suite) -> None:
        """Its streams end, the others do not notice, and new ones go to the survivor at once."""
        with Destination() as destination:
            relay = suite.relay()
            victim, survivor = (suite.reverse_proxy(relay) for _ in range(2))
            entry_point = suite.entry_point(relay, "-r", f"0:{destination.address}", channels=8)
            entrance = entry_point.addresses()[0]
            with held(destination, entrance, 12) as streams:
                lost = int(victim.metric("streams_opened"))
                assert 0 < lost < 12
                victim.kill()
                alive = [each for each in streams if outlived(*each)]
                assert len(alive) == 12 - lost
                began = time.monotonic()
                with held(destination, entrance, 12):
                    assert time.monotonic() - began < NOTICED_S
            assert survivor.metric("streams_opened") >= 12

    def test_one_of_two_relays(self, suite: Suite) -> None:
        with Destination() as destination:
            relays = [suite.relay() for _ in range(2)]
            both = HostPort("127.0.0.1", relays[0].addresses()[0].port)
            more = ("-s", str(relays[1].addresses()[0]))
            suite.reverse_proxy(both, *more)
            entry_point = suite.entry_point(
                both, *more, "-r", f"0:{destination.address}", channels=16
            )
            entrance = entry_point.addresses()[0]
            # Where the streams go is the opener's choice: fill one pool and a part of the other.
            with held(destination, entrance, 24) as streams:
                relays[0].kill()
                alive = [each for each in streams if outlived(*each)]
                began = time.monotonic()
                with held(destination, entrance, 12):
                    assert time.monotonic() - began < NOTICED_S
            assert 0 < len(alive) < 24


def test_a_reverse_proxy_that_falls_silent(suite: Suite) -> None:
    """Stopped, not dead: its kernel still acknowledges, so only the heartbeat can tell."""
    with Destination() as destination, TcpServer(echo) as server:
        relay = suite.relay()
        frozen, awake = (suite.reverse_proxy(relay) for _ in range(2))
        entry_point = suite.entry_point(
            relay, "-r", f"0:{destination.address}", "-r", f"0:{server.address}", channels=8
        )
        held_at, echo_at = entry_point.addresses()
        with held(destination, held_at, 12) as streams:
            lost = int(frozen.metric("streams_opened"))
            assert 0 < lost < 12
            frozen.signal(signal.SIGSTOP)
            try:
                entry_point.wait_metric("streams_failed", lambda count: count >= lost, NOTICED_S)
                for _ in range(20):
                    assert exchange(echo_at) < NOTICED_S
                assert len([source for source, _ in streams if was_reset(source)]) == lost
                assert awake.metric("streams_opened") >= 20 + 12 - lost
            finally:
                frozen.signal(signal.SIGCONT)
            # Awake again, it learns that it is forgotten, tells its destinations, and is back.
            wait_for(
                lambda: len([far for _, far in streams if was_reset(far)]) == lost,
                "destinations of the frozen one are reset",
            )
            frozen.wait_metric("links_pending", lambda count: count >= 8)
            relay.wait_metric("links_pending", lambda count: count >= 16)
        exchange(echo_at)


def was_reset(sock: socket.socket) -> bool:
    """Whether a RST has come; a clean end is a failure. The kernel tells only once."""
    sock.setblocking(False)
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    finally:
        sock.setblocking(True)
    raise AssertionError("a clean end, or data, where a RST was due")
