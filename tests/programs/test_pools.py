"""Channels are used again, pools grow when they must, and shrink when the burst is over."""

from __future__ import annotations

import operator
import socket
from contextlib import ExitStack
from functools import partial

import pytest

from common.addresses import HostPort
from tests.programs.ends import Destination, TcpServer, connected
from tests.programs.harness import Program, Suite

CONNECTIONS = 5000
POOL = 8


def exchange(entrance: HostPort) -> None:
    with connected(entrance) as sock:
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100) == b"hello"
        assert sock.recv(100) == b""


def handshakes(relay: Program, reverse_proxy: Program, entry_point: Program) -> dict[str, float]:
    """Everything that costs a handshake, by every program's own count."""
    return {
        "pairs made": relay.metric("pairs_made"),
        "links welcomed": relay.metric("links_welcomed"),
        "connections": relay.metric("connections_accepted"),
        "opened": entry_point.metric("channels_opened"),
        "accepted": reverse_proxy.metric("channels_opened"),
    }


def settled(suite: Suite, destination: HostPort, *options: str) -> tuple[Program, Program, Program]:
    """Start all three and wait until both pools are full."""
    relay = suite.relay()
    reverse_proxy = suite.reverse_proxy(relay, *options)
    entry_point = suite.entry_point(relay, "-r", f"0:{destination}", *options, channels=POOL)
    relay.wait_metric("links_pending", lambda count: count == POOL)
    return relay, reverse_proxy, entry_point


@pytest.mark.slow
def test_5000_connections_in_a_row_make_no_handshake(suite: Suite, echo_server: TcpServer) -> None:
    programs = settled(suite, echo_server.address)
    entrance = programs[2].addresses()[0]
    before = handshakes(*programs)
    for _ in range(CONNECTIONS):
        exchange(entrance)
    programs[2].wait_metric("streams_finished", lambda count: count == CONNECTIONS)
    assert handshakes(*programs) == before
    assert programs[2].metric("streams_failed") == 0
    assert echo_server.accepted == CONNECTIONS


def test_a_burst_grows_both_pools_and_they_shrink_after_it(suite: Suite) -> None:
    burst = 64
    with Destination() as destination:
        options = ("--pool-linger", "1")
        relay, reverse_proxy, entry_point = settled(suite, destination.address, *options)
        entrance = entry_point.addresses()[0]
        descriptors = [each.descriptors() for each in (relay, reverse_proxy, entry_point)]
        with ExitStack() as stack:
            for _ in range(burst):
                stack.enter_context(destination.stream(entrance))
            entry_point.wait_metric("streams_open", lambda count: count == burst)
            # Ready for the next ones: half of the minimum beyond what is busy.
            entry_point.wait_metric("channels_idle", lambda count: count >= POOL / 2)
            reverse_proxy.wait_metric("channels", lambda count: count >= burst + POOL / 2)
            reverse_proxy.wait_metric("links_pending", lambda count: count >= POOL)
        entry_point.wait_metric("channels_idle", lambda count: count == POOL)
        reverse_proxy.wait_metric("channels", lambda count: count == POOL)
        reverse_proxy.wait_metric("links_pending", lambda count: count == POOL)
        relay.wait_metric("pairs_open", lambda count: count == POOL)
        relay.wait_metric("links_pending", lambda count: count == POOL)
        assert entry_point.metric("streams_failed") == 0
        for program, count in zip((relay, reverse_proxy, entry_point), descriptors, strict=True):
            # The relay keeps pipes for the next burst.
            assert program.descriptors() <= count + (128 if program is relay else 8)
        # What is left still works.
        with destination.stream(entrance) as (source, far):
            source.sendall(b"after")
            assert far.recv(10) == b"after"


def test_pending_links_grow_with_the_backlog_and_shrink_after_it(
    suite: Suite, echo_server: TcpServer
) -> None:
    """A reverse-proxy that keeps two links pending fills an entry-point's pool of forty."""
    relay = suite.relay()
    reverse_proxy = suite.reverse_proxy(relay, "--pool", "2", "--pool-linger", "1")
    entry_point = suite.entry_point(
        relay, "-r", f"0:{echo_server.address}", "--pool", "40", channels=40
    )
    reverse_proxy.wait_metric("links_pending", lambda count: count == 2)
    relay.wait_metric("links_pending", lambda count: count == 2)
    assert relay.metric("pairs_open") == 40
    exchange(entry_point.addresses()[0])


def test_a_rhythm_of_bursts_makes_no_new_handshakes(suite: Suite, echo_server: TcpServer) -> None:
    """Within the linger the channels of one burst serve the next."""
    programs = settled(suite, echo_server.address)
    entrance = programs[2].addresses()[0]

    def burst() -> None:
        with ExitStack() as stack:
            for sock in [stack.enter_context(connected(entrance)) for _ in range(24)]:
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"

    burst()
    programs[2].wait_metric("streams_open", lambda count: count == 0)
    opened = programs[2].metric("channels_opened")
    for _ in range(20):
        burst()
        programs[2].wait_metric("streams_open", lambda count: count == 0)
    assert programs[2].metric("channels_opened") == opened


def test_the_limit_of_channels_holds_and_those_beyond_it_wait(suite: Suite) -> None:
    with Destination() as destination:
        relay = suite.relay()
        suite.reverse_proxy(relay)
        entry_point = suite.entry_point(
            relay, "-r", f"0:{destination.address}", "--pool", "4", "--max-channels", "6"
        )
        entrance = entry_point.addresses()[0]
        with ExitStack() as stack:
            for _ in range(6):
                stack.enter_context(destination.stream(entrance))
            with connected(entrance) as late:
                late.sendall(b"late")
                entry_point.wait_metric("sources_waiting", lambda count: count == 1)
                assert entry_point.metric("streams_open") == 6
                assert relay.metric("pairs_open") == 6
                stack.close()
                with destination.accept() as far:
                    assert far.recv(10) == b"late"


def test_a_need_of_a_moment_calls_no_link_off(suite: Suite, echo_server: TcpServer) -> None:
    """A link that is dialled when the need falls again may be paired already: it is kept."""
    programs = settled(suite, echo_server.address)
    entrance = programs[2].addresses()[0]
    with ExitStack() as stack:
        for count in range(4, 24):  # at half of the pool's size, and then beyond each time
            for _ in range(3):
                with ExitStack() as moment:
                    for sock in [moment.enter_context(connected(entrance)) for _ in range(3)]:
                        sock.sendall(b"x")
                        assert sock.recv(1) == b"x"
            stack.enter_context(connected(entrance))
            programs[2].wait_metric("streams_open", partial(operator.eq, count - 3))
    programs[2].wait_metric("streams_open", lambda count: count == 0)
    assert programs[0].metric("pairs_failed") == 0
    assert "no channel came of a pair" not in programs[1].log + programs[2].log
