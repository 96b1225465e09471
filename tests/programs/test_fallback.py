"""Which way bytes move is chosen, said and kept; programs of different shapes go together.

What a stream keeps in either shape is in ``test_streams``.
"""

from __future__ import annotations

import socket

import pytest

from tests.programs.ends import TcpServer, connected, download, together, upload
from tests.programs.harness import Program, Suite

MIB = 1024 * 1024
SIZE = 16 * MIB


def exchange(entry_point: Program) -> None:
    """Send 16 MiB through to an echo and back."""
    with connected(entry_point.addresses()[0]) as sock:

        def say() -> str:
            digest = upload(sock, SIZE)
            sock.shutdown(socket.SHUT_WR)
            return digest

        sent, got = together(say, lambda: download(sock))
        assert got == sent


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("forwarder", ["splice", "copy", "auto"])
def test_the_counters_say_which_way_was_taken(
    suite: Suite, echo_server: TcpServer, forwarder: str, loop: str
) -> None:
    options = ("--event-loop", loop)
    relay = suite.relay("--forwarder", forwarder, *options)
    suite.reverse_proxy(relay, *options)
    entry_point = suite.entry_point(relay, "-r", f"0:{echo_server.address}", *options)
    exchange(entry_point)
    metrics = relay.metrics()
    spliced = forwarder != "copy"
    used, unused = ("bytes_spliced", "bytes_copied")[:: 1 if spliced else -1]
    assert metrics[used] > 1.9 * SIZE
    assert metrics[unused] <= (0.1 * SIZE if spliced else 0)  # small messages are copied
    assert (metrics["splice_calls"] > 0) is spliced
    if not spliced:
        assert metrics["pipes_lent"] == 0


@pytest.mark.parametrize("odd", ["relay", "reverse-proxy", "entry-point"])
def test_programs_on_different_loops_go_together(
    suite: Suite, echo_server: TcpServer, odd: str
) -> None:
    def loop(name: str) -> tuple[str, str]:
        return "--event-loop", "asyncio" if name == odd else "uvloop"

    relay = suite.relay(*loop("relay"))
    suite.reverse_proxy(relay, *loop("reverse-proxy"))
    entry_point = suite.entry_point(relay, "-r", f"0:{echo_server.address}", *loop("entry-point"))
    exchange(entry_point)
    entry_point.wait_log("outcome=finished")


def test_no_pipe_is_left_lent(suite: Suite, echo_server: TcpServer) -> None:
    """A pipe belongs to a direction only while it holds bytes."""
    relay, _, entry_point, _ = suite.chain(echo_server.address)
    descriptors = relay.descriptors()
    for _ in range(4):
        exchange(entry_point)
    entry_point.wait_metric("streams_open", lambda count: count == 0)
    relay.wait_metric("pipes_lent", lambda count: count == 0)
    assert relay.descriptors() <= descriptors + 64
