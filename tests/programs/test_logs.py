"""What the programs say: one ready line, one line for every stream's end, one for every change."""

from __future__ import annotations

import contextlib
import json
import operator
import re
import signal
import socket
from functools import partial
from typing import Any

import pytest

from common.addresses import HostPort
from common.sockets import close_with_reset
from tests.programs.ends import (
    Destination,
    TcpServer,
    be_refused,
    connected,
    free_port,
    receive_all,
    receive_reset,
)
from tests.programs.harness import Program, Suite, wait_for


def streams(program: Program) -> list[dict[str, Any]]:
    """Return what a program with ``--log-format json`` says about streams."""
    lines = [json.loads(line) for line in program.lines]
    return [each for each in lines if each["message"] == "stream"]


def told(program: Program, count: int) -> bool:
    """Whether it has told the ends of ``count`` streams."""
    return len(streams(program)) >= count


def one_stream(program: Program) -> dict[str, Any]:
    """Return its only line about a stream, as soon as there is one."""
    wait_for(lambda: streams(program), f"{program.name} tells the end of the stream")
    (line,) = streams(program)
    return line


class Scene:
    """All three with JSON logs, and one route to ``destination``."""

    def __init__(self, suite: Suite, destination: HostPort, *options: str) -> None:
        json_logs = ("--log-format", "json")
        self.relay = suite.relay(*json_logs)
        self.reverse_proxy = suite.reverse_proxy(self.relay, *json_logs, *options)
        self.entry_point = suite.entry_point(
            self.relay, "-r", f"0:{destination}", *json_logs, channels=8
        )
        self.entrance = self.entry_point.addresses()[0]

    def ends(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the one line of the entry-point and the one of the reverse-proxy."""
        return one_stream(self.entry_point), one_stream(self.reverse_proxy)

    def outcomes(self) -> tuple[str, str]:
        near, far = self.ends()
        return near["outcome"], far["outcome"]


class TestReadyLine:
    def test_each_says_once_what_is_bound(self, suite: Suite, echo_server: TcpServer) -> None:
        programs = suite.chain(echo_server.address)[:3]
        for program in programs:
            line = program.ready()
            assert re.fullmatch(r"127\.0\.0\.1:\d+, metrics 127\.0\.0\.1:\d+", line), line
            for address in line.replace("metrics ", "").split(", "):
                host, port = address.rsplit(":", 1)
                socket.create_connection((host, int(port)), 5).close()

    def test_every_listener_in_the_order_of_the_routes(self, suite: Suite) -> None:
        port = free_port()
        entry_point = suite.entry_point(
            HostPort("127.0.0.1", free_port()), "-r", f"0:9,{port}:9", channels=0
        )
        assert [each.port == port for each in entry_point.addresses()] == [False, True]

    def test_all_addresses_are_dual_stack(self, suite: Suite) -> None:
        relay = suite.start("relay-server", "-p", "0")
        assert re.fullmatch(r"\[::\]:\d+|0\.0\.0\.0:\d+", relay.ready())
        port = relay.addresses()[0].port
        socket.create_connection(("127.0.0.1", port), 5).close()


class TestStreamLine:
    def test_finished(self, suite: Suite) -> None:
        with Destination() as destination:
            scene = Scene(suite, destination.address)
            with destination.stream(scene.entrance) as (source, far):
                name = HostPort(*source.getsockname())
                source.sendall(b"12345")
                source.shutdown(socket.SHUT_WR)
                assert receive_all(far) == b"12345"
                far.sendall(b"123")
                far.shutdown(socket.SHUT_WR)
                assert receive_all(source) == b"123"
            near, distant = scene.ends()
        where = str(destination.address)
        assert near.pop("time")
        assert distant.pop("time")
        assert 0 <= near.pop("seconds") < 20
        assert 0 <= distant.pop("seconds") < 20
        assert near == {
            "level": "info",
            "program": "entry-point",
            "message": "stream",
            "source": str(name),
            "route": f"0:{where}",
            "destination": where,
            "outcome": "finished",
            "sent": 5,
            "received": 3,
        }
        assert distant == {
            "level": "info",
            "program": "reverse-proxy",
            "message": "stream",
            "source": str(name),
            "destination": where,
            "outcome": "finished",
            "sent": 3,
            "received": 5,
        }

    @pytest.mark.parametrize("quitter", ["source", "destination"])
    def test_reset(self, suite: Suite, quitter: str) -> None:
        with Destination() as destination:
            scene = Scene(suite, destination.address)
            with destination.stream(scene.entrance) as (source, far):
                far.sendall(b"x")  # or it may look like a refusal
                assert source.recv(1) == b"x"
                close_with_reset(source if quitter == "source" else far)
                receive_reset(far if quitter == "source" else source)
                near, distant = scene.ends()
        assert near["outcome"] == distant["outcome"] == f"reset-by-{quitter}"
        assert near["level"] == distant["level"] == "warning"

    def test_refused(self, suite: Suite) -> None:
        port = free_port()
        scene = Scene(suite, HostPort("127.0.0.1", port))
        be_refused(scene.entrance)
        near, distant = scene.ends()
        assert near["outcome"] == distant["outcome"] == "refused"
        reason = f"unreachable: 127.0.0.1 port {port}: Connection refused"
        assert near["detail"] == distant["detail"] == reason

    def test_not_allowed(self, suite: Suite) -> None:
        with Destination() as destination:
            scene = Scene(suite, destination.address, "--allow", "127.0.0.1:9")
            be_refused(scene.entrance)
            near, distant = scene.ends()
        assert near["outcome"] == distant["outcome"] == "refused"
        assert str(destination.address.port) in distant["detail"]
        assert near["detail"] == distant["detail"]

    @pytest.mark.parametrize("victim", ["relay", "reverse_proxy", "entry_point"])
    def test_lost(self, suite: Suite, victim: str) -> None:
        with Destination() as destination:
            scene = Scene(suite, destination.address)
            with destination.stream(scene.entrance) as (source, far):
                getattr(scene, victim).kill()
                receive_reset(source)
                receive_reset(far)
                for name in {"reverse_proxy", "entry_point"} - {victim}:
                    line = one_stream(getattr(scene, name))
                    assert line["outcome"] == "lost"
                    assert line["detail"]

    def test_no_channel(self, suite: Suite) -> None:
        relay = suite.relay()
        entry_point = suite.entry_point(
            relay, "-r", "0:127.0.0.1:9", "--wait", "0.3", "--log-format", "json", channels=0
        )
        be_refused(entry_point.addresses()[0])
        line = one_stream(entry_point)
        assert line["outcome"] == "no-channel"
        assert "no reverse-proxy of group '0'" in line["detail"]
        assert 0.29 < line["seconds"] < 5

    def test_no_channel_because_the_relay_is_away(self, suite: Suite) -> None:
        relay_at = HostPort("127.0.0.1", free_port())
        entry_point = suite.entry_point(
            relay_at, "-r", "0:127.0.0.1:9", "--wait", "0.3", "--log-format", "json", channels=0
        )
        be_refused(entry_point.addresses()[0])
        line = one_stream(entry_point)
        assert line["outcome"] == "no-channel"
        assert f"cannot reach the relay at {relay_at}" in line["detail"]

    @pytest.mark.parametrize("name", ["reverse_proxy", "entry_point"])
    def test_stopped(self, suite: Suite, name: str) -> None:
        with Destination() as destination:
            scene = Scene(suite, destination.address)
            with destination.stream(scene.entrance) as (source, far):
                stopping: Program = getattr(scene, name)
                stopping.signal(signal.SIGTERM)
                stopping.wait_log("10 s grace")  # two signals at once would be one
                stopping.signal(signal.SIGTERM)
                receive_reset(source)
                receive_reset(far)
                assert one_stream(stopping)["outcome"] == "stopped"

    def test_one_line_each_for_many(self, suite: Suite, echo_server: TcpServer) -> None:
        scene = Scene(suite, echo_server.address)
        names = []
        for _ in range(50):
            with connected(scene.entrance) as source:
                names.append(str(HostPort(*source.getsockname())))
                source.sendall(b"x")
                source.shutdown(socket.SHUT_WR)
                assert receive_all(source) == b"x"
        for program in (scene.entry_point, scene.reverse_proxy):
            wait_for(partial(told, program, 50), "all are told")
            assert sorted(each["source"] for each in streams(program)) == sorted(names)


class TestRelayAway:
    """The state of the connection is told when it changes, not at every try."""

    def test_down_and_back_are_told_once_each(self, suite: Suite, echo_server: TcpServer) -> None:
        relay_at = HostPort("127.0.0.1", free_port())
        relay = suite.relay(port=relay_at.port)
        reverse_proxy = suite.reverse_proxy(relay)
        entry_point = suite.entry_point(relay, "-r", f"0:{echo_server.address}", channels=8)
        clients = (reverse_proxy, entry_point)
        relay.kill()
        counts = []
        for program in clients:
            program.wait_log("cannot reach the relay")
            counts.append(program.metric("failures"))
        for program, count in zip(clients, counts, strict=True):
            program.wait_metric("failures", partial(operator.le, count + 2))
        suite.relay(port=relay_at.port)
        entry_point.wait_metric("channels_idle", lambda count: count >= 1, 30)
        for program in clients:
            unreachable = [line for line in program.lines if "cannot reach the relay" in line]
            assert len(unreachable) == 1, program.log
            # And at most one line about how the links that were there ended.
            assert len([line for line in program.lines if "relay trouble" in line]) <= 2
            assert len([line for line in program.lines if "relay connected" in line]) == 2

    @pytest.mark.parametrize("name", ["reverse-proxy", "entry-point"])
    def test_an_unreachable_relay_is_named_with_what_to_do(self, suite: Suite, name: str) -> None:
        relay_at = HostPort("127.0.0.1", free_port())
        routes = ("-r", "0:127.0.0.1:9") if name == "entry-point" else ()
        program = suite.start(name, "-s", str(relay_at), *routes)
        line = program.wait_log("cannot reach the relay")
        assert str(relay_at) in line
        assert "Connection refused; is relay-server running there" in line

    def test_an_unknown_name_is_told_with_what_to_do(self, suite: Suite) -> None:
        program = suite.start("reverse-proxy", "-s", "relay.invalid:4433")
        line = program.wait_log("cannot resolve")
        assert "relay.invalid" in line
        assert "--server-address" in line
        assert program.process.poll() is None


class TestFormats:
    def test_every_line_of_a_busy_life_is_json(self, suite: Suite, echo_server: TcpServer) -> None:
        scene = Scene(suite, echo_server.address)
        with connected(scene.relay.addresses()[0]) as stranger:
            stranger.sendall(b"\x00\xff\r\n\x1b[2J" * 100)
            stranger.settimeout(20)
            with contextlib.suppress(ConnectionResetError):
                receive_all(stranger)
        with connected(scene.entrance) as source:
            source.sendall(b"x")
            source.shutdown(socket.SHUT_WR)
            assert receive_all(source) == b"x"
        for program in (scene.entry_point, scene.reverse_proxy, scene.relay):
            program.signal(signal.SIGTERM)
            assert program.wait() == 0
            assert program.lines
            for line in program.lines:
                fields = json.loads(line)
                assert {"time", "level", "program", "message"} <= set(fields)
                assert fields["program"] == program.name

    def test_a_flood_of_strangers_is_summed_up(self, suite: Suite) -> None:
        relay = suite.relay()
        address = relay.addresses()[0]
        for _ in range(300):
            with connected(address) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        relay.wait_metric("logins_failed", lambda count: count >= 300)
        relay.signal(signal.SIGTERM)
        assert relay.wait() == 0
        assert len([line for line in relay.lines if "connection refused" in line]) < 30
        told = sum(map(int, re.findall(r"suppressed (\d+) more like it", relay.log)))
        shown = len(re.findall(r"warn +connection refused", relay.log))
        assert told + shown == 300
