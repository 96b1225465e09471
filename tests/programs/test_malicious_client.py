"""Clients that are admitted and hostile: towards the relay, and towards a partner.

Whatever they do ends their own link or channel with one clear line in the log. Nothing crashes,
nothing stays behind, and nobody else waits for it.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from common import frames
from common.addresses import HostPort
from common.keys import Identity
from common.wire import (
    MAX_PARTNERS,
    GoAway,
    Hello,
    Paired,
    Ping,
    Pong,
    Ready,
    Trust,
    Welcome,
    encode,
)
from tests.programs.evil_client import (
    EvilClient,
    inner_session,
    is_ended,
    open_frame,
    raw_socket,
    read_frames,
    receive,
    send,
    update_keys,
)
from tests.programs.harness import Program, Suite, TcpServer, connected, wait_for

STALL_S = 1.0
"""What an innocent client may have to wait while others misbehave; undisturbed it is 20 ms."""


def client(suite: Suite, relay: Program, identity: Identity | None = None) -> EvilClient:
    certificate = str(suite.path("server.crt"))
    return EvilClient(relay.addresses()[0], identity or suite.identity, certificate)


def login_seconds(suite: Suite, relay: Program) -> float:
    """Return how long an innocent client takes from the dial to WELCOME."""
    began = time.monotonic()
    with client(suite, relay).pending("entry-point", "innocent"):
        return time.monotonic() - began


def settled(relay: Program) -> bool:
    values = relay.metrics()
    return values["strangers"] == values["links_pending"] == values["pairs_open"] == 0


# Towards the relay


HELLO = Hello([1], "entry-point", "0", bytes(16), "evil")
WELCOME = Welcome(1, 1, 1.0)
BEFORE_WELCOME: dict[str, tuple[bytes, str]] = {
    "nothing but an end": (b"", "the other side ended the connection"),
    "a length of 0": (b"\0\0", "a control message of 0 bytes: 1 to 4096 are allowed"),
    "a huge length": (b"\xff\xff", "a control message of 65535 bytes: 1 to 4096 are allowed"),
    "no MessagePack": (b"\0\x01\xc1", "not a control message"),
    "a message that is none": (b"\0\x02\x91\x63", "not a control message"),
    "PING first": (encode(Ping()), "PING is not allowed on a link that is greeting"),
    "READY first": (encode(Ready()), "READY is not allowed on a link that is greeting"),
    "WELCOME from a client": (encode(WELCOME), "WELCOME is not allowed on a link that is greeting"),
    "a partner key of 31 bytes": (encode(Trust([bytes(31)])), "not a control message"),
    "no partner key, 5,000 times": (encode(Trust([])) * 5000, "more than 4096 partner keys"),
    "a role that is none": (
        encode(Hello([1], "relay", "0", bytes(16))),  # type: ignore[arg-type]
        "not a control message",
    ),
    "a group without a name": (encode(Hello([1], "entry-point", "", bytes(16))), "not a control"),
    "5,000 partner keys": (
        b"".join(encode(Trust([os.urandom(32) for _ in range(100)])) for _ in range(50)),
        "more than 4096 partner keys",
    ),
    "one partner key 5,000 times": (
        encode(Trust([bytes(32)] * 100)) * 50,
        "more than 4096 partner keys",
    ),
}


def test_bad_words_before_welcome_end_the_link_with_a_reason(suite: Suite) -> None:
    relay = suite.relay()
    before = relay.descriptors()
    for name, (words, _) in BEFORE_WELCOME.items():
        with client(suite, relay) as evil:
            with suppress(OSError):  # the relay may end it in the middle of our words
                evil.tls.sendall(words)
            if not words:
                evil.tls.shutdown(socket.SHUT_WR)
            assert is_ended(evil.tls), name
    wait_for(lambda: settled(relay), "all are gone")
    wait_for(lambda: relay.descriptors() <= before, "no descriptor is left behind")
    assert relay.metric("logins_failed") == len(BEFORE_WELCOME)
    # The log's budget allows five lines of a kind: the rest is counted.
    assert sum("connection refused" in line for line in relay.lines) == 5
    for _, reason in list(BEFORE_WELCOME.values())[:5]:
        relay.wait_log(reason)


@pytest.mark.parametrize("name", [*BEFORE_WELCOME][-4:])
def test_each_reason_is_logged(suite: Suite, name: str) -> None:
    words, reason = BEFORE_WELCOME[name]
    relay = suite.relay()
    with client(suite, relay) as evil:
        with suppress(OSError):
            evil.tls.sendall(words)
        assert is_ended(evil.tls)
    line = relay.wait_log("connection refused")
    assert reason in line
    assert "code=no-login" in line
    assert "client=127.0.0.1:" in line


WHILE_PENDING: dict[str, tuple[bytes, str]] = {
    "READY before PAIRED": (encode(Ready()), "READY is not allowed on a link that is pending"),
    "HELLO again": (encode(HELLO), "HELLO is not allowed on a link that is pending"),
    "TRUST again": (encode(Trust([bytes(32)])), "TRUST is not allowed on a link that is pending"),
    "PAIRED from a client": (
        encode(Paired(bytes(32), bytes(16), True, 0)),
        "PAIRED from a client",
    ),
    "GOAWAY from a client": (encode(GoAway()), "GOAWAY from a client"),
    "PONG from a client": (encode(Pong()), "PONG from a client"),
    "a huge length": (b"\xff\xff", "a control message of 65535 bytes: 1 to 4096 are allowed"),
    "no MessagePack": (b"\0\x01\xc1", "not a control message"),
}


def test_bad_words_while_pending_end_the_link_with_a_reason(suite: Suite) -> None:
    relay = suite.relay()
    for name, (words, _) in WHILE_PENDING.items():
        with client(suite, relay).pending("entry-point") as evil:
            evil.tls.sendall(words)
            assert is_ended(evil.tls), name
    wait_for(lambda: settled(relay), "all are gone")
    assert relay.metric("links_lost") == len(WHILE_PENDING)
    lines = [line for line in relay.lines if "link ended for a protocol error" in line]
    assert len(lines) == 5  # then the log's budget is spent
    for line, (_, reason) in zip(lines, WHILE_PENDING.values(), strict=False):
        assert reason in line
        assert "client=127.0.0.1:" in line


def two_paired(suite: Suite, relay: Program) -> tuple[EvilClient, EvilClient]:
    opener = client(suite, relay).pending("entry-point")
    acceptor = client(suite, relay).pending("reverse-proxy")
    assert opener.paired().opener
    assert not acceptor.paired().opener
    return opener, acceptor


def test_bytes_after_ready_in_the_outer_session_end_the_pair(suite: Suite) -> None:
    relay = suite.relay()
    opener, acceptor = two_paired(suite, relay)
    opener.tls.sendall(encode(Ready()) + encode(Ping()))
    assert is_ended(opener.tls)
    assert is_ended(acceptor.tls)
    assert "bytes after READY" in relay.wait_log("pair failed")
    wait_for(lambda: settled(relay), "both are gone")
    opener.close()
    acceptor.close()


@pytest.mark.slow
def test_a_partner_that_is_never_ready_costs_its_partner_ten_seconds(suite: Suite) -> None:
    relay = suite.relay()
    began = time.monotonic()
    opener, acceptor = two_paired(suite, relay)
    send(acceptor.tls, Ready())
    assert is_ended(acceptor.tls)
    assert is_ended(opener.tls)
    assert 9 < time.monotonic() - began < 14
    assert "not READY within 10 s" in relay.wait_log("pair failed")
    wait_for(lambda: settled(relay), "both are gone")
    opener.close()
    acceptor.close()


def flood(tls_send: Callable[[bytes], int], words: bytes, stop: threading.Event) -> None:
    with suppress(OSError):
        while not stop.is_set():
            tls_send(words)


def innocent_waits(suite: Suite, relay: Program, evil: EvilClient, words: bytes) -> float:
    """Return how long an innocent login takes while ``evil`` says ``words`` over and over."""
    stop = threading.Event()
    evil.tls.settimeout(2)
    talker = threading.Thread(target=flood, args=(evil.tls.send, words, stop))
    talker.start()
    try:
        return max(login_seconds(suite, relay) for _ in range(5))
    finally:
        stop.set()
        talker.join()


def test_endless_trust_before_hello_does_not_hold_up_others(suite: Suite) -> None:
    """Anybody can do this: at that point the key is proven, but not yet judged."""
    relay = suite.relay()
    stranger = suite.new_identity("stranger")
    with client(suite, relay, stranger) as evil:
        words = encode(Trust([bytes(32)])) * 400
        assert innocent_waits(suite, relay, evil, words) < STALL_S
        assert is_ended(evil.tls)
    relay.wait_log("more than 4096 partner keys")


def test_partner_keys_are_forgotten_with_their_link(suite: Suite) -> None:
    """4,096 keys take half a MiB; a client that comes again with others costs no more than that."""
    relay = suite.relay()
    sizes = []
    for _ in range(2):
        for _ in range(40):
            with client(suite, relay) as evil:
                keys = [os.urandom(32) for _ in range(MAX_PARTNERS)]
                assert isinstance(evil.login("entry-point", partners=keys), Welcome)
        wait_for(lambda: settled(relay), "all are gone")
        sizes.append(relay.resident_kib())
    assert sizes[1] - sizes[0] < 8 * 1024  # it would be 22 MiB


@pytest.mark.parametrize("admitted", [False, True])
def test_endless_key_updates_do_not_hold_up_others(suite: Suite, admitted: bool) -> None:
    """Anybody with any key can do this as soon as TLS is agreed, and it costs 27 bytes each."""
    relay = suite.relay()
    identity = suite.identity if admitted else suite.new_identity("stranger")
    with client(suite, relay, identity) as evil:
        if admitted:
            evil.pending("entry-point", "evil")
        update_keys(evil.tls, 1)
        evil.tls.sendall(encode(Ping() if admitted else Trust([bytes(32)])))  # now and then is fine
        if admitted:
            assert receive(evil.tls) == Pong()
        evil.tls.setblocking(True)
        said: list[int] = []

        def update() -> None:
            with suppress(OSError):
                while True:
                    update_keys(evil.tls, 100)
                    said.append(100)

        talker = threading.Thread(target=update)
        talker.start()
        assert max(login_seconds(suite, relay) for _ in range(5)) < STALL_S
        talker.join()
        assert is_ended(evil.tls)
    relay.wait_log("33 TLS records in a row without data")
    wait_for(lambda: settled(relay), "it is gone")


def test_endless_pings_do_not_hold_up_others(suite: Suite) -> None:
    relay = suite.relay()
    with client(suite, relay).pending("entry-point", "evil") as evil:
        stop = threading.Event()

        def read() -> None:  # the answers, or the relay would end the link for not reading
            with suppress(OSError):
                while not stop.is_set() and evil.tls.recv(65536):
                    pass

        reader = threading.Thread(target=read)
        reader.start()
        assert innocent_waits(suite, relay, evil, encode(Ping()) * 4000) < STALL_S
        stop.set()
        evil.tls.close()
        reader.join()
    wait_for(lambda: settled(relay), "all are gone")


def test_a_client_that_does_not_read_answers_is_dropped(suite: Suite) -> None:
    relay = suite.relay("--log-level", "debug")
    with client(suite, relay).pending("entry-point") as evil:
        evil.tls.settimeout(5)
        with suppress(OSError):
            for _ in range(2000):
                evil.tls.send(encode(Ping()) * 4000)
        relay.wait_log("does not read|Connection reset|Broken pipe")
    wait_for(lambda: settled(relay), "it is gone")


# Towards a partner: a hostile opener


class Chain:
    """A relay, a reverse-proxy and an entry-point with an innocent stream open."""

    def __init__(self, suite: Suite, echo_server: TcpServer) -> None:
        self.suite = suite
        self.destination = echo_server.address
        self.relay, self.reverse_proxy, self.entry_point, self.entrance = suite.chain(
            echo_server.address
        )

    def opener(self) -> EvilClient:
        return client(self.suite, self.relay).pending("entry-point")

    def healthy(self) -> None:
        with connected(self.entrance) as sock:
            sock.sendall(b"still there?")
            assert sock.recv(100) == b"still there?"


@pytest.fixture
def chain(suite: Suite, echo_server: TcpServer) -> Iterator[Chain]:
    chain = Chain(suite, echo_server)
    with connected(chain.entrance) as innocent:
        innocent.sendall(b"before")
        assert innocent.recv(100) == b"before"
        yield chain
        innocent.sendall(b"after")
        assert innocent.recv(100) == b"after"
    chain.healthy()
    for program in (chain.relay, chain.reverse_proxy, chain.entry_point):
        assert program.process.poll() is None
        assert "internal error" not in program.log
        assert "Traceback" not in program.log


def header(kind: int, length: int) -> bytes:
    return struct.pack(">I", kind << 24 | length)


DATA = header(frames.DATA, 4) + b"data"
FIN = frames.encode(frames.FIN)
OPENER_ON_IDLE: dict[str, tuple[bytes, str]] = {
    "DATA before OPEN": (DATA, "DATA is not allowed on an idle channel"),
    "FIN before OPEN": (FIN, "FIN is not allowed on an idle channel"),
    "REFUSED from the opener": (
        frames.encode_refused(frames.Refused("evil", "evil")),
        "REFUSED is not allowed on an idle channel",
    ),
    "GOAWAY from the opener": (
        frames.encode(frames.GOAWAY),
        "GOAWAY is not allowed on an idle channel",
    ),
    "a type that is none": (header(99, 0), "a frame of type 99 with 0 bytes is not allowed"),
    "type 0": (header(0, 5), "a frame of type 0 with 5 bytes is not allowed"),
    "a huge OPEN": (
        header(frames.OPEN, 0xFFFFFF),
        "a frame of OPEN with 16777215 bytes",
    ),
    "a PING with a payload": (
        header(frames.PING, 1),
        "a frame of PING with 1 bytes",
    ),
    "an empty OPEN": (header(frames.OPEN, 0), "a frame of OPEN with 0 bytes is not allowed"),
    "an OPEN that is none": (frames.encode(frames.OPEN, b"\xc1"), "not an OPEN frame"),
    "an OPEN of port 0": (
        frames.encode_open(frames.Open("0", "tcp", "127.0.0.1", 0, "192.0.2.9", 1)),
        "not an OPEN frame",
    ),
    "an OPEN of sctp": (
        frames.encode_open(frames.Open("0", "sctp", "127.0.0.1", 53, "192.0.2.9", 1)),  # type: ignore[arg-type]
        "not an OPEN frame",
    ),
    "an OPEN with a long name": (
        frames.encode_open(frames.Open("0", "tcp", "x" * 256, 53, "192.0.2.9", 1)),
        "not an OPEN frame",
    ),
    "DATA of nothing": (header(frames.DATA, 0), "a DATA frame without data is not allowed"),
}


def test_bad_frames_of_an_opener_on_an_idle_channel(chain: Chain, echo_server: TcpServer) -> None:
    accepted = echo_server.accepted
    for name, (words, _) in OPENER_ON_IDLE.items():
        with chain.opener().inner("entry-point") as evil:
            evil.sendall(words)
            assert is_ended(evil), name
    assert echo_server.accepted == accepted
    lines = [line for line in chain.reverse_proxy.lines if "channel closed" in line]
    assert len(lines) == 5  # then the log's budget is spent
    for line, (_, reason) in zip(lines, OPENER_ON_IDLE.values(), strict=False):
        assert f'reason="protocol error: {reason}' in line
        assert f"partner={chain.suite.identity.public.fingerprint}" in line


OPENER_WITHIN: dict[str, tuple[bytes, str]] = {
    "OPEN twice": (b"OPEN", "OPEN is not allowed within a stream"),
    "REFUSED": (
        frames.encode_refused(frames.Refused("evil", "evil")),
        "REFUSED is not allowed within a stream",
    ),
    "DATA after FIN": (FIN + DATA, "DATA is not allowed after FIN"),
    "FIN twice": (FIN + FIN, "FIN is not allowed within a stream"),
    "a type that is none": (header(99, 0), "a frame of type 99 with 0 bytes is not allowed"),
    "a huge REFUSED": (
        header(frames.REFUSED, 5000),
        "a frame of REFUSED with 5000 bytes",
    ),
}


def test_bad_frames_of_an_opener_within_a_stream(suite: Suite) -> None:
    ends: list[str] = []

    def hold(sock: socket.socket) -> None:
        try:
            while sock.recv(65536):
                pass
            while True:  # the opener's end was a clean one; keep our side open
                sock.send(b".")
                time.sleep(0.01)
        except (ConnectionResetError, BrokenPipeError):
            ends.append("reset")

    with TcpServer(hold) as server:
        chain = Chain(suite, server)
        for name, (words, reason) in OPENER_WITHIN.items():
            with chain.opener().inner("entry-point") as evil:
                request = open_frame(server.address)
                evil.sendall(request + DATA + (request if words == b"OPEN" else words))
                assert is_ended(evil), name
            line = chain.reverse_proxy.wait_log(re.escape(f"protocol error: {reason}"))
            assert "outcome=lost" in line
        wait_for(lambda: ends == ["reset"] * len(OPENER_WITHIN), "each destination sees a RST")
        assert chain.reverse_proxy.metric("streams_failed") == len(OPENER_WITHIN)


def test_a_reset_of_an_idle_channel_is_no_offence(chain: Chain) -> None:
    """It crosses our FIN when the other side's stream ends badly at the last moment."""
    with chain.opener().inner("entry-point") as evil:
        evil.sendall(frames.encode(frames.RESET))
        assert is_ended(evil)
    assert "protocol error" not in chain.reverse_proxy.log


STRANGE_HOSTS = [
    "127.0.0.1\0.example",
    "\0",
    "%",
    " ",
    "..",
    "xn--",
    "\u00fc.example",
    "\U0001f4a9" * 60,
    "\x1b[2J\n2026 fake line",
    "a" * 255,
    "127.1",
    "0x7f000001",
    "2130706433",
    "::ffff:169.254.169.254",
    "0",
    "-1",
]


def test_strange_host_names_are_refused_and_the_channel_lives_on(
    chain: Chain, echo_server: TcpServer
) -> None:
    port = chain.destination.port
    with chain.opener().inner("entry-point") as evil:
        for host in STRANGE_HOSTS:
            evil.sendall(open_frame(HostPort(host, port)))
            kind, payload = next(read_frames(evil))
            assert kind == frames.REFUSED, host
            frames.decode_refused(payload)
            evil.sendall(FIN)
            assert next(read_frames(evil)) == (frames.DONE, b"")
        evil.sendall(open_frame(chain.destination) + DATA + FIN)
        assert next(read_frames(evil)) == (frames.DATA, b"data")
    # A line of the log for each, and none of them is forged.
    assert not [line for line in chain.reverse_proxy.lines if "\x1b" in line]
    assert not [line for line in chain.reverse_proxy.lines if line.startswith("2026 fake")]


def stalls(chain: Chain, evil_words: Callable[[], None]) -> float:
    """Return the longest round trip of an innocent stream while ``evil_words`` runs."""
    talker = threading.Thread(target=evil_words)
    worst = 0.0
    with connected(chain.entrance) as sock:
        sock.sendall(b"?")
        assert sock.recv(1) == b"?"
        talker.start()
        while talker.is_alive():
            began = time.monotonic()
            sock.sendall(b"?")
            assert sock.recv(1) == b"?"
            worst = max(worst, time.monotonic() - began)
    talker.join()
    return worst


FLOOD_S = 1.5


def test_a_flood_of_pings_is_answered_sparingly(chain: Chain) -> None:
    evil = chain.opener().inner("entry-point")
    pings = frames.encode(frames.PING) * 4096  # one record

    def ping() -> None:
        until = time.monotonic() + FLOOD_S
        with suppress(OSError):
            while time.monotonic() < until:
                evil.send(pings)

    evil.settimeout(2)
    assert stalls(chain, ping) < 0.5
    evil.close()


def test_a_flood_of_tiny_frames_does_not_hold_up_others(chain: Chain) -> None:
    evil = chain.opener().inner("entry-point")
    evil.settimeout(2)
    stop = threading.Event()

    def drain() -> None:  # of the echoes
        with suppress(OSError):
            while not stop.is_set() and evil.recv(65536):
                pass

    def talk() -> None:
        until = time.monotonic() + FLOOD_S
        tiny = (header(frames.DATA, 1) + b"x") * 3276  # one record
        with suppress(OSError):
            evil.sendall(open_frame(chain.destination))
            while time.monotonic() < until:
                evil.send(tiny)

    drainer = threading.Thread(target=drain)
    drainer.start()
    assert stalls(chain, talk) < 0.5
    stop.set()
    raw_socket(evil).close()
    drainer.join()


# Towards a partner: a hostile acceptor


ACCEPTOR_ON_IDLE: dict[str, tuple[bytes, str]] = {
    "OPEN": (open_frame(HostPort("127.0.0.1", 22)), "OPEN is not allowed on an idle channel"),
    "DATA": (DATA, "DATA is not allowed on an idle channel"),
    "FIN": (FIN, "FIN is not allowed on an idle channel"),
    "REFUSED": (
        frames.encode_refused(frames.Refused("evil", "evil")),
        "REFUSED is not allowed on an idle channel",
    ),
    "a type that is none": (header(77, 0), "a frame of type 77 with 0 bytes is not allowed"),
}


def acceptor(suite: Suite, relay: Program) -> EvilClient:
    return client(suite, relay).pending("reverse-proxy")


def test_bad_frames_of_an_acceptor_on_an_idle_channel(suite: Suite) -> None:
    relay = suite.relay()
    entry_point = suite.entry_point(relay, "-r", "0:9", channels=0)
    for name, (words, reason) in ACCEPTOR_ON_IDLE.items():
        with acceptor(suite, relay).inner("reverse-proxy") as evil:
            evil.sendall(words)
            assert is_ended(evil), name
        line = entry_point.wait_log(re.escape(f'reason="protocol error: {reason}"'))
        assert "channel closed" in line
    wait_for(lambda: relay.metric("pairs_open") == 0, "the pairs are gone")


ACCEPTOR_WITHIN: dict[str, tuple[bytes, str, str]] = {
    "OPEN": (open_frame(HostPort("127.0.0.1", 22)), "lost", "OPEN is not allowed within a stream"),
    "DATA after FIN": (FIN + DATA, "lost", "DATA is not allowed after FIN"),
    "FIN twice": (FIN + FIN, "lost", "FIN is not allowed within a stream"),
    "REFUSED after FIN": (
        FIN + frames.encode_refused(frames.Refused("evil", "evil")),
        "lost",
        "REFUSED is not allowed within a stream",
    ),
    "a REFUSED that is none": (
        frames.encode(frames.REFUSED, b"\xc1"),
        "lost",
        "not a REFUSED frame",
    ),
    "a REFUSED that moves the cursor": (
        frames.encode_refused(frames.Refused("evil", "\x1b[2J\nforged line")),
        "refused",
        "forged line",
    ),
    "an end without FIN": (b"", "lost", "the other side ended the connection"),
}


def test_bad_frames_of_an_acceptor_within_a_stream(suite: Suite) -> None:
    relay = suite.relay()
    entry_point = suite.entry_point(relay, "-r", "0:9", channels=0)
    entrance = entry_point.addresses()[0]
    for name, (words, outcome, reason) in ACCEPTOR_WITHIN.items():
        with acceptor(suite, relay).inner("reverse-proxy") as evil, connected(entrance) as source:
            source.sendall(b"question")
            stream = read_frames(evil)
            assert next(stream)[0] == frames.OPEN, name
            assert next(stream) == (frames.DATA, b"question")
            evil.sendall(header(frames.DATA, 4) + b"answ")
            assert source.recv(4) == b"answ"
            if words:
                evil.sendall(words)
            else:
                evil.close()
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                use_up(source)
        line = entry_point.wait_log(re.escape(reason))
        assert f"outcome={outcome}" in line, name
        assert "\x1b" not in line
    wait_for(lambda: entry_point.metric("streams_open") == 0, "no stream is left behind")
    assert entry_point.process.poll() is None


def use_up(source: socket.socket) -> None:
    """Receive to the end, then send until the connection turns out to be reset."""
    while source.recv(100):
        pass
    until = time.monotonic() + 5
    while time.monotonic() < until:  # a FIN went before: only sending tells of the RST
        source.sendall(b"?")
        time.sleep(0.01)


def test_a_partner_that_never_speaks_tls_costs_no_channel(suite: Suite) -> None:
    """READY, and then silence or garbage instead of the inner session."""
    relay = suite.relay()
    entry_point = suite.entry_point(relay, "-r", "0:9", channels=0)
    evil = acceptor(suite, relay)
    evil.paired()
    send(evil.tls, Ready())
    raw = raw_socket(evil.tls)
    raw.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    assert is_ended(raw)
    raw.close()
    assert "wrong version number" in entry_point.wait_log("no channel came of a pair")
    with acceptor(suite, relay).inner("reverse-proxy"):  # and the next one is welcome
        entry_point.wait_metric("channels_idle", lambda count: count == 1)


def test_messages_keep_their_order_at_the_seam(suite: Suite) -> None:
    """The control: what hostile clients do above works when it is done right."""
    relay = suite.relay()
    opener, other = two_paired(suite, relay)
    send(opener.tls, Ping(), Ready())  # a PING may cross PAIRED on the wire
    send(other.tls, Ready())
    sessions: dict[str, bytes] = {}

    def answer() -> None:
        with inner_session(raw_socket(other.tls), suite.identity, "reverse-proxy") as tls:
            sessions["acceptor"] = tls.recv(100)

    thread = threading.Thread(target=answer)
    thread.start()
    with inner_session(raw_socket(opener.tls), suite.identity, "entry-point") as tls:
        tls.sendall(b"end to end")
        thread.join()
    assert sessions == {"acceptor": b"end to end"}
