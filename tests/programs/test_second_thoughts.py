"""Keys that are removed or expire while they are used, and what happens to what they opened."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta

import pytest

from common.wire import Denied
from tests.programs.ends import TcpServer, connected
from tests.programs.evil_client import dial, receive
from tests.programs.harness import Suite
from tests.programs.refusals import message, trusted


def test_removing_a_key_at_the_relay_ends_its_links_and_pairs(
    suite: Suite, echo_server: TcpServer
) -> None:
    guest = suite.new_identity("guest")
    both = trusted(suite, "both", ("", suite.identity), ("", guest))
    keys = trusted(suite, "keys", ("", suite.identity), ("", guest))
    relay = suite.relay("-a", keys)
    suite.reverse_proxy(relay, "-t", both)
    route = ("-r", f"0:{echo_server.address}")
    leaver = suite.entry_point(relay, *route, "-a", "cert/guest", "-t", both)
    stayer = suite.entry_point(relay, *route)
    with (
        connected(leaver.addresses()[0]) as ended,
        connected(stayer.addresses()[0]) as kept,
        dial(suite, relay, guest) as pending,
    ):
        for sock in (ended, kept):
            sock.sendall(b"!")
            assert sock.recv(1) == b"!"
        pending.pending("entry-point", "nobody else")
        trusted(suite, "keys", ("", suite.identity))
        relay.signal(signal.SIGHUP)
        with pytest.raises(ConnectionResetError):
            ended.recv(1)
        denied = receive(pending.tls)
        assert isinstance(denied, Denied)
        assert denied.code == "unknown-key"
        kept.sendall(b"?")
        assert kept.recv(1) == b"?"
    line = relay.wait_log("pair ended.* code=unknown-key ")
    assert f"the relay does not know key {guest.public.fingerprint}; to admit it" in line
    assert "does not know key" in leaver.wait_log("relay trouble")
    relay.wait_log("connection refused.* code=unknown-key ")


def test_removing_a_key_at_the_reverse_proxy_ends_its_channels(
    suite: Suite, echo_server: TcpServer
) -> None:
    guest = suite.new_identity("guest")
    keys = trusted(suite, "keys", ("", suite.identity), ("", guest))
    trusts = trusted(suite, "trusts", ("", suite.identity), ("", guest))
    # A heartbeat of minutes: it is the SIGHUP that counts, not the next look at the keys.
    relay = suite.relay("-a", keys, "--heartbeat", "300")
    reverse_proxy = suite.reverse_proxy(relay, "-t", trusts)
    route = ("-r", f"0:{echo_server.address}")
    leaver = suite.entry_point(relay, *route, "-a", "cert/guest", "-t", keys, "--wait", "0.5")
    stayer = suite.entry_point(relay, *route)
    with (
        connected(leaver.addresses()[0]) as ended,
        connected(stayer.addresses()[0]) as kept,
    ):
        for sock in (ended, kept):
            sock.sendall(b"!")
            assert sock.recv(1) == b"!"
        trusted(suite, "trusts", ("", suite.identity))
        reverse_proxy.signal(signal.SIGHUP)
        with pytest.raises(ConnectionResetError):
            ended.recv(1)
        kept.sendall(b"?")
        assert kept.recv(1) == b"?"
    line = reverse_proxy.wait_log("channel closed")
    assert f"partner={guest.public.fingerprint}" in line
    assert message(line) == "the partner's key is no longer trusted"
    leaver.wait_metric("channels_idle", lambda count: count == 0)
    with pytest.raises(ConnectionResetError), connected(leaver.addresses()[0]) as source:
        source.recv(1)
    assert "no reverse-proxy of group '0' that trusts this key" in leaver.wait_log("no-channel")


def test_a_key_that_expires_while_it_is_used(suite: Suite, echo_server: TcpServer) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=8)
    options = f'expiry-time="{moment:%Y%m%d%H%M%S}Z"'
    guest = suite.new_identity("guest")
    both = trusted(suite, "both", ("", suite.identity), ("", guest))
    keys = trusted(suite, "keys", ("", suite.identity), (options, guest))
    relay = suite.relay("-a", keys)
    suite.reverse_proxy(relay, "-t", both)
    entry_point = suite.entry_point(
        relay, "-r", f"0:{echo_server.address}", "-a", "cert/guest", "-t", both
    )
    with connected(entry_point.addresses()[0]) as source:
        source.sendall(b"!")
        assert source.recv(1) == b"!"
        with pytest.raises(ConnectionResetError):
            source.recv(1)
    assert "expired at" in relay.wait_log("pair ended.* code=expired-key ")
    assert "expired at" in entry_point.wait_log("relay trouble")


def test_a_reload_that_does_not_parse_changes_nothing(suite: Suite, echo_server: TcpServer) -> None:
    relay, _, _, entrance = suite.chain(echo_server.address)
    with connected(entrance) as source:
        suite.path("auth.pub").write_text("nonsense\n")
        relay.signal(signal.SIGHUP)
        line = relay.wait_log("not reloaded; all stays as it was")
        assert message(line).startswith("cert/auth.pub:1: not a key: 'nonsense'")
        source.sendall(b"!")
        assert source.recv(1) == b"!"
    assert relay.metric("links_denied") == 0
