"""Clients that are admitted and hostile towards the relay.

Whatever they do ends their own link with one clear line in the log. Nothing crashes, nothing stays
behind, and nobody else waits for it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

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
    dial,
    inner_session,
    is_ended,
    raw_socket,
    receive,
    send,
    update_keys,
)
from tests.programs.harness import Program, Suite, wait_for

STALL_S = 1.0
"""What an innocent client may have to wait while others misbehave; undisturbed it is 20 ms."""


def login_seconds(suite: Suite, relay: Program) -> float:
    """Return how long an innocent client takes from the dial to WELCOME."""
    began = time.monotonic()
    with dial(suite, relay).pending("entry-point", "innocent"):
        return time.monotonic() - began


def settled(relay: Program) -> bool:
    values = relay.metrics()
    return values["strangers"] == values["links_pending"] == values["pairs_open"] == 0


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
        with dial(suite, relay) as evil:
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
    with dial(suite, relay) as evil:
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
        with dial(suite, relay).pending("entry-point") as evil:
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
    opener = dial(suite, relay).pending("entry-point")
    acceptor = dial(suite, relay).pending("reverse-proxy")
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
    with dial(suite, relay, stranger) as evil:
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
            with dial(suite, relay) as evil:
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
    with dial(suite, relay, identity) as evil:
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
    with dial(suite, relay).pending("entry-point", "evil") as evil:
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
    with dial(suite, relay).pending("entry-point") as evil:
        evil.tls.settimeout(5)
        with suppress(OSError):
            for _ in range(2000):
                evil.tls.send(encode(Ping()) * 4000)
        relay.wait_log("does not read|Connection reset|Broken pipe")
    wait_for(lambda: settled(relay), "it is gone")


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
