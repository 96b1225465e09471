"""Both ends of an exposure turned malicious: a reverse-proxy with a trusted key, and a relay.

The one may not get what another key holds, nor grow the relay, nor disturb its neighbours. The
other may not reach anything that was not exposed, nor grow the reverse-proxy.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from common import frames
from common.addresses import HostPort, parse_host_port
from common.wire import (
    VERSION,
    Declined,
    Demand,
    Expose,
    Exposed,
    GoAway,
    Message,
    Ping,
    Ready,
    Trust,
    Unexposed,
    Visit,
    Welcome,
    encode,
)
from tests.programs.ends import Destination, connected, receive_all, receive_reset
from tests.programs.evil_client import is_ended, open_frame, raw_socket, read_frames, receive, send
from tests.programs.evil_relay import EvilLink, EvilRelay
from tests.programs.evil_tenant import EvilTenant, Stage
from tests.programs.harness import Program, Suite, wait_for
from tests.programs.test_exposures import as_another, says

HEARTBEAT_S = "2"
"""An evil tenant may be silent for six seconds, and its exposures are over soon after it."""
GROWTH_KIB = 24 * 1024
"""What thousands of messages may leave behind: buffers that the allocator keeps."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Suite(tmp_path_factory.mktemp("stage")) as suite, says(b"hello") as service:
        flags = as_another(suite)
        names = ("--domain", "fidb.app", "--http-port", "0", "--https-port", "0")
        relay = suite.relay(*names, "--heartbeat", HEARTBEAT_S, "--reserve", "0.5")
        wanted = ("-e", f"0:{service.address}", "--http", "shop:80", "--http", "*.deep.fidb.app:80")
        proxy = suite.reverse_proxy(relay, *flags, "--pool", "2", *wanted)
        line = proxy.wait_log(r" exposed .*public=127\.0\.0\.1:")
        proxy.wait_metric("visitor_channels", lambda count: count == 2)
        stage = Stage(suite, relay, parse_host_port(re.findall(r"public=(\S+)", line)[0]))
        stage.is_served()
        yield stage


# A malicious reverse-proxy


def test_what_another_key_holds_is_not_to_be_had(stage: Stage) -> None:
    port, descriptors = stage.port, stage.relay.descriptors()
    with EvilTenant(stage) as evil:
        wanted = [
            Expose(1, "tcp", "", port.port),
            Expose(2, "tcp", "", port.port, "127.0.0.0/8"),
            Expose(3, "http", "shop", 0),
            Expose(4, "https", "SHOP.fidb.app.", 0),
            Expose(5, "http", "*.fidb.app", 0),
            Expose(6, "http", "*.shop.fidb.app", 0),
            Expose(7, "http", "a.b.deep.fidb.app", 0),
            Expose(8, "https", "deep.fidb.app", 0, "", True),
        ]
        answers = evil.ask(*wanted)
        refused = [each.id for each in answers if isinstance(each, Unexposed)]
        # What is below a name is not the name, and what is above a wildcard not below it.
        assert refused == [1, 2, 3, 4, 5, 7]
        assert {each.code for each in answers if isinstance(each, Unexposed)} == {"held"}
    stage.settled(descriptors)


def test_a_flood_of_exposures_grows_nothing_and_disturbs_nobody(stage: Stage) -> None:
    relay = stage.relay
    memory, descriptors, lines = relay.resident_kib(), relay.descriptors(), len(relay.lines)
    count, asked = 2000, threading.Event()
    with EvilTenant(stage) as evil:

        def flood() -> None:
            for start in range(0, count, 50):
                evil.ask(*(Expose(n % 20, "tcp", "", 0) for n in range(start, start + 50)))
            asked.set()

        thread = threading.Thread(target=flood)
        thread.start()
        slowest = 0.0
        while thread.is_alive():
            slowest = max(slowest, stage.is_served())
        assert asked.is_set()
        assert slowest < 2.0
        assert relay.metric("exposures") == 3 + 20
    stage.settled(descriptors)
    assert relay.resident_kib() - memory < GROWTH_KIB
    told = [line for line in relay.lines[lines:] if " exposed " in line]
    assert len(told) < 1100


OUT_OF_PLACE: dict[str, Message] = {
    "UNEXPOSED": Unexposed(1, "taken-over", "of another"),
    "EXPOSED": Exposed(1, 1, ""),
    "VISIT": Visit(1, "192.0.2.7", 1, "", 1),
    "DECLINED": Declined("unreachable", ""),
    "READY": Ready(),
    "DEMAND": Demand(1, 1),
    "GOAWAY": GoAway(),
    "WELCOME": Welcome(VERSION, 1, 1.0),
    "TRUST": Trust([]),
}


def test_who_says_what_is_not_its_to_say_loses_its_link_alone(stage: Stage) -> None:
    descriptors = stage.relay.descriptors()
    for name, message in OUT_OF_PLACE.items():
        with EvilTenant(stage) as evil:
            evil.expose()
            send(evil.control, message)
            assert is_ended(evil.control), name
            # The link is lost, and nothing follows from it any more.
            _, verdict = evil.verdict("raw")
            assert "no-exposures" in str(verdict), name
    stage.settled(descriptors)


CHANNEL_WORDS = {
    "OPEN": open_frame(HostPort("127.0.0.1", 1)),
    "VISIT": frames.encode_visit(Visit(1, "192.0.2.7", 1, "", 1)),
    "DATA": frames.encode(frames.DATA, b"x"),
    "FIN": frames.encode(frames.FIN),
    "DONE": frames.encode(frames.DONE),
    "RESET": frames.encode(frames.RESET),
    "REFUSED": frames.encode_refused(frames.Refused("x", "y")),
    "DATAGRAM": frames.encode_datagram(1, b"x"),
    "no frame": b"\xff" * 64,
}


def test_what_is_said_on_an_idle_channel_ends_it_alone(stage: Stage) -> None:
    descriptors = stage.relay.descriptors()
    with EvilTenant(stage) as evil:
        evil.expose()
        for name, words in CHANNEL_WORDS.items():
            channel = evil.link("visitors")
            channel.sendall(words)
            assert is_ended(channel), name
    stage.settled(descriptors)


BAD_ANSWERS = {
    "an end that is no frame's": frames.encode(frames.FIN, b"x"),
    "a sign that nobody waits for": frames.encode(frames.DONE),
    "an open": open_frame(HostPort("127.0.0.1", 1)),
    "a lie in the log": frames.encode_refused(
        frames.Refused("unreachable", "\x1b[2J\nerror forged=1")
    ),
    "the end of the channel": b"",
}


def test_a_visitor_s_stream_that_is_treated_badly_ends_for_that_visitor_alone(
    stage: Stage,
) -> None:
    descriptors = stage.relay.descriptors()
    with EvilTenant(stage) as evil:
        public = evil.expose()
        for words in BAD_ANSWERS.values():
            channel = evil.link("visitors")
            with connected(public) as visitor:
                visitor.sendall(b"hello")
                kind, payload = next(read_frames(channel))
                assert kind == frames.VISIT
                assert frames.decode_visit(payload).exposure == 1
                if words:
                    channel.sendall(words)
                else:
                    channel.close()
                assert receive_reset(visitor) == 0
            channel.close()
        stage.relay.wait_log(r"unreachable: \\x1b\[2J\\nerror forged=1")
        assert not any(line.startswith("error forged") for line in stage.relay.lines)
    stage.settled(descriptors)


def test_raw_links_that_lie_cost_their_visitor_and_nobody_else(stage: Stage) -> None:
    descriptors = stage.relay.descriptors()
    with EvilTenant(stage) as evil:
        public = evil.expose(raw=True)
        for early in (Ready(), Declined("x", "y"), Expose(1, "tcp", "", 0)):
            link = evil.link("raw")
            send(link, early)
            assert is_ended(link), early
        # DECLINED, and then more: the visitor is refused once, and what follows is ignored.
        link = evil.link("raw")
        with connected(public) as visitor:
            assert isinstance(receive(link), Visit)
            with suppress(OSError):
                send(link, Declined("unreachable", "no"), Ready(), Declined("again", ""))
            assert receive_reset(visitor) == 0
            assert is_ended(link)
        # Bytes of the outer session behind READY are not the visitor's: it gets another link.
        link = evil.link("raw")
        with connected(public) as visitor:
            assert isinstance(receive(link), Visit)
            link.sendall(encode(Ready()) + encode(Ping()))
            assert is_ended(link)
            link = evil.link("raw")
            assert isinstance(receive(link), Visit)
            send(link, Declined("unreachable", "no"))
            assert receive_reset(visitor) == 0
        # An honest answer still works.
        link = evil.link("raw")
        with connected(public) as visitor:
            assert isinstance(receive(link), Visit)
            send(link, Ready())
            with raw_socket(link) as raw:
                raw.sendall(b"welcome")
                raw.shutdown(socket.SHUT_WR)
                assert receive_all(visitor) == b"welcome"
    stage.settled(descriptors)


# A malicious relay


@contextmanager
def victim(suite: Suite, *args: str) -> Iterator[tuple[EvilRelay, EvilLink, Program]]:
    """A reverse-proxy with exposures whose relay is evil; yields its exposures link, answered."""
    with EvilRelay(suite) as relay:
        program = suite.start(
            "reverse-proxy", "-s", str(relay.address), "--metrics", "127.0.0.1:0", *args
        )
        link = relay.take("reverse-proxy", "exposures")
        for _ in range(sum(each == "-e" for each in args)):
            asked = receive(link.tls)
            assert isinstance(asked, Expose)
            send(link.tls, Exposed(asked.id, asked.port or 1, f":{asked.port or 1}"))
        program.ready()
        yield relay, link, program


def visit(number: int) -> Visit:
    return Visit(number, "192.0.2.7", 4711, "198.51.100.1", 80)


def refused_on(channel: ssl.SSLSocket, number: int) -> str:
    """Ask for an exposure on a channel and return the code of the refusal."""
    channel.sendall(frames.encode_visit(visit(number)) + frames.encode(frames.FIN))
    answers = read_frames(channel)
    kind, payload = next(answers)
    assert kind == frames.REFUSED, kind
    assert next(answers)[0] == frames.DONE
    return frames.decode_refused(payload).code


def test_an_evil_relay_reaches_what_was_exposed_in_its_own_way_alone(suite: Suite) -> None:
    with Destination() as plain, Destination() as raw, Destination() as udp:
        # A TCP server at the address that was exposed over UDP was not exposed.
        given = ("-e", f"80:{plain.address}", "-e", f"443:{raw.address},raw")
        with victim(suite, *given, "-e", f"53:{udp.address}/udp") as (relay, _, program):
            channel = relay.take("reverse-proxy", "visitors").tls
            for number in (0, 2, 4, 2**31):
                assert refused_on(channel, number) == "unknown-exposure"
            for number in (0, 1, 3, 4, 2**31):
                link = relay.take("reverse-proxy", "raw").tls
                send(link, visit(number))
                answer = receive(link)
                assert isinstance(answer, Declined)
                assert answer.code == "unknown-exposure"
            for words in (open_frame(plain.address), frames.encode(frames.DATA, b"x")):
                other = relay.take("reverse-proxy", "visitors").tls
                other.sendall(words)
                assert is_ended(other)
            # What was exposed is reached, and was not before.
            channel.sendall(frames.encode_visit(visit(1)) + frames.encode(frames.DATA, b"hello"))
            with plain.accept() as service:
                assert service.recv(5) == b"hello"
            link = relay.take("reverse-proxy", "raw").tls
            send(link, visit(2))
            with raw.accept():
                assert isinstance(receive(link), Ready)
            for each in (plain, raw, udp):
                each._listener.settimeout(0)
                with pytest.raises(BlockingIOError):
                    each.accept()
            assert program.process.poll() is None


def test_an_evil_relay_that_talks_without_end_grows_nothing(suite: Suite) -> None:
    with Destination() as destination:
        most = 24
        given = ("-e", f"80:{destination.address}", "--max-channels", str(most), "--pool", "2")
        with victim(suite, *given) as (relay, link, program):
            channel = relay.take("reverse-proxy", "visitors").tls
            memory, lines = program.resident_kib(), len(program.lines)
            said = b"".join(
                encode(each)
                for n in range(2000)
                for each in (
                    Demand(2**31, 2**31 - n),
                    Exposed(1, n, f"relay-{n}.example:{n}"),
                    Unexposed(1, f"code-{n}", "x" * 500),
                )
            )
            for _ in range(3):
                link.tls.sendall(said)
            send(link.tls, Exposed(1, 80, ":80"), Demand(0, 0))
            wait_for(
                lambda: program.metric("exposures") == 1 and any("80" in x for x in program.lines),
                "all has been heard",
            )
            channel.sendall(frames.encode_visit(visit(1)) + frames.encode(frames.DATA, b"hello"))
            with destination.accept() as service:
                assert service.recv(5) == b"hello"
            assert relay.waiting("visitors") + relay.waiting("raw") <= 2 * most
            assert program.resident_kib() - memory < GROWTH_KIB
            assert len(program.lines) - lines < 300


def test_an_evil_relay_that_answers_for_what_was_not_asked_is_asked_anew(suite: Suite) -> None:
    with victim(suite, "-e", "80:1") as (relay, link, program):
        for _ in range(2):
            send(link.tls, Exposed(7, 80, ":80"))
            assert is_ended(link.tls)
            link = relay.take("reverse-proxy", "exposures")
        program.wait_log("exposures are away .*exposure 7, which was not asked for")
        asked = receive(link.tls)
        assert isinstance(asked, Expose)
        assert asked.port == 80
