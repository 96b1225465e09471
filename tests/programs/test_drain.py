"""The orderly end: a signal lets streams finish for as long as the grace, and no longer."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from common.addresses import HostPort
from tests.programs.ends import (
    Destination,
    TcpServer,
    connected,
    download,
    free_port,
    receive_all,
    receive_reset,
    together,
    upload,
)
from tests.programs.harness import Program, Suite, wait_for

MIB = 1024 * 1024
PROGRAMS = ["relay-server", "reverse-proxy", "entry-point"]
SOON_S = 3.0
"""For an end that waits for nobody."""


@contextmanager
def running_stream(
    suite: Suite, *options: str
) -> Iterator[tuple[dict[str, Program], HostPort, socket.socket, socket.socket]]:
    """Start all three, and a stream that has carried a byte each way."""
    with Destination() as destination:
        relay = suite.relay(*options)
        programs = {
            "relay-server": relay,
            "reverse-proxy": suite.reverse_proxy(relay, *options),
            "entry-point": suite.entry_point(
                relay, "-r", f"0:{destination.address}", *options, channels=8
            ),
        }
        entrance = programs["entry-point"].addresses()[0]
        with destination.stream(entrance) as (source, far):
            source.sendall(b"?")
            assert far.recv(1) == b"?"
            far.sendall(b"!")
            assert source.recv(1) == b"!"
            yield programs, entrance, source, far


def refuses(address: HostPort) -> bool:
    try:
        socket.create_connection((address.host, address.port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_stream_may_finish(suite: Suite, name: str, number: signal.Signals) -> None:
    """64 MiB each way after the signal, and then the program ends by itself."""
    with running_stream(suite) as (programs, entrance, source, far):
        program = programs[name]
        program.signal(number)
        program.wait_log("stopping: 10 s grace")
        listening = {
            "relay-server": programs["relay-server"].addresses()[0],
            "entry-point": entrance,
        }
        if name in listening:
            wait_for(lambda: refuses(listening[name]), "it accepts no more")

        def say(sock: socket.socket) -> str:
            digest = upload(sock, 16 * MIB)
            sock.shutdown(socket.SHUT_WR)
            return digest

        sent, returned, got, came_back = together(
            lambda: say(source),
            lambda: say(far),
            lambda: download(far),
            lambda: download(source),
        )
        assert (got, came_back) == (sent, returned)
        assert program.wait(SOON_S) == 0
        assert "Traceback" not in program.log
        programs["entry-point"].wait_log("outcome=finished")
        programs["reverse-proxy"].wait_log("outcome=finished")


@pytest.mark.parametrize("name", PROGRAMS)
def test_idle_programs_end_at_once(suite: Suite, echo_server: TcpServer, name: str) -> None:
    relay, reverse_proxy, entry_point, _ = suite.chain(echo_server.address)
    programs = {each.name: each for each in (relay, reverse_proxy, entry_point)}
    program = programs[name]
    program.signal(signal.SIGTERM)
    assert program.wait(SOON_S) == 0
    assert [line for line in program.lines if "error" in line or "Traceback" in line] == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_second_signal_ends_at_once(suite: Suite, name: str) -> None:
    with running_stream(suite) as (programs, _, source, far):
        program = programs[name]
        program.signal(signal.SIGTERM)
        program.wait_log("stopping: 10 s grace")
        program.signal(signal.SIGINT)
        assert program.wait(SOON_S) == 0
        program.wait_log("second signal")
        for sock in (source, far):
            sock.settimeout(SOON_S)
            assert receive_reset(sock) == 0
        assert "Traceback" not in program.log
        if name != "relay-server":
            program.wait_log("outcome=stopped")


@pytest.mark.parametrize("name", PROGRAMS)
def test_when_the_grace_is_over_streams_are_reset(suite: Suite, name: str) -> None:
    with running_stream(suite, "--grace", "1") as (programs, _, source, far):
        program = programs[name]
        began = time.monotonic()
        program.signal(signal.SIGTERM)
        for sock in (source, far):
            assert receive_reset(sock) == 0
        assert 0.9 < time.monotonic() - began < 1 + SOON_S
        assert program.wait(SOON_S) == 0
        if name != "relay-server":
            program.wait_log("outcome=stopped")


def test_no_grace_is_a_grace_too(suite: Suite) -> None:
    with running_stream(suite, "--grace", "0") as (programs, _, source, _):
        programs["entry-point"].signal(signal.SIGTERM)
        assert receive_reset(source) == 0
        assert programs["entry-point"].wait(SOON_S) == 0


def test_sources_that_wait_are_told_when_the_entry_point_ends(suite: Suite) -> None:
    """Nobody serves their group, and nobody will in time."""
    relay = suite.relay()
    entry_point = suite.entry_point(relay, "-r", "0:127.0.0.1:9", channels=0)
    with connected(entry_point.addresses()[0]) as source:
        entry_point.wait_metric("sources_waiting", lambda count: count == 1)
        entry_point.signal(signal.SIGTERM)
        assert receive_reset(source) == 0
    assert entry_point.wait(SOON_S) == 0
    entry_point.wait_log("outcome=stopped")


@pytest.mark.parametrize("name", ["reverse-proxy", "entry-point"])
def test_a_client_without_a_relay_ends_too(suite: Suite, name: str) -> None:
    """While it keeps trying a relay that is not there."""
    routes = ("-r", "0:127.0.0.1:9") if name == "entry-point" else ()
    program = suite.start(name, "-s", f"127.0.0.1:{free_port()}", *routes)
    program.wait_log("cannot reach the relay")
    program.signal(signal.SIGTERM)
    assert program.wait(SOON_S) == 0


class Loop:
    """Short connections, one after the other, until it is left; every one must succeed."""

    def __init__(self, entrance: HostPort) -> None:
        self.count = 0
        self.slowest_s = 0.0
        self.failure: BaseException | None = None
        self._entrance = entrance
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self._leaving.is_set():
                began = time.monotonic()
                with connected(self._entrance) as sock:
                    sock.sendall(b"hello")
                    sock.shutdown(socket.SHUT_WR)
                    assert receive_all(sock) == b"hello"
                self.count += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.failure = error

    def goes_on(self) -> None:
        """Wait for a hundred more."""
        goal = self.count + 100
        wait_for(lambda: self.failure or self.count >= goal, "connections go on")
        assert self.failure is None, f"after {self.count}: {self.failure!r}"

    def __enter__(self) -> Loop:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join(20)


def test_a_rolling_restart_of_reverse_proxies_loses_nobody(
    suite: Suite, echo_server: TcpServer
) -> None:
    relay = suite.relay()
    group = [suite.reverse_proxy(relay) for _ in range(2)]
    entry_point = suite.entry_point(relay, "-r", f"0:{echo_server.address}", channels=8)
    entrance = entry_point.addresses()[0]
    loops = [Loop(entrance) for _ in range(3)]
    with loops[0], loops[1], loops[2]:
        for _ in range(2):
            for each in loops:
                each.goes_on()
            old = group.pop(0)
            old.signal(signal.SIGTERM)
            assert old.wait(SOON_S) == 0
            for each in loops:
                each.goes_on()
            group.append(suite.reverse_proxy(relay))
    assert [each.failure for each in loops] == [None] * 3
    entry_point.wait_metric("streams_open", lambda count: count == 0)
    assert entry_point.metric("streams_failed") == 0
    assert max(each.slowest_s for each in loops) < SOON_S


@pytest.mark.slow
def test_a_rolling_restart_of_relays_loses_nobody(suite: Suite, echo_server: TcpServer) -> None:
    """Both clients are at two relays; each is restarted while the other carries on."""
    ports = [free_port(), free_port()]
    relays = [suite.relay(port=port) for port in ports]
    first, second = (each.addresses()[0] for each in relays)
    reverse_proxy = suite.reverse_proxy(first, "-s", str(second))
    entry_point = suite.entry_point(
        first, "-s", str(second), "-r", f"0:{echo_server.address}", channels=16
    )
    with Loop(entry_point.addresses()[0]) as loop:
        for relay, port in zip(relays, ports, strict=True):
            loop.goes_on()
            relay.signal(signal.SIGTERM)
            assert relay.wait(SOON_S) == 0
            loop.goes_on()
            suite.relay(port=port)
            entry_point.wait_metric("channels_idle", lambda count: count >= 12)
            loop.goes_on()
    assert loop.failure is None
    assert entry_point.metric("streams_failed") == 0
    assert reverse_proxy.metric("streams_failed") == 0
