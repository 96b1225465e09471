"""Who may not come in is told so: the cause and the next step, at the client and at the relay.

The messages are pinned, for they are what a person acts on.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from common.keys import Identity
from common.wire import Denied
from tests.programs.ends import TcpServer, connected
from tests.programs.evil_client import dial, receive, send
from tests.programs.harness import Program, Suite, wait_for
from tests.programs.refusals import message, trusted


def bare(identity: Identity) -> str:
    """Return the line of a public key without its comment, which TLS does not carry."""
    return " ".join(identity.public.openssh().split()[:2])


def refused_by_relay(
    suite: Suite, relay: Program, code: str, *args: str, program: str = "entry-point"
) -> str:
    """Start a client that the relay refuses; return the message that both ends log alike."""
    routes = ("-r", "0:9") if program == "entry-point" else ()
    client = suite.start(program, "-s", str(relay.addresses()[0]), *routes, *args)
    at_client = message(client.wait_log("relay trouble"))
    at_relay = relay.wait_log(f"connection refused.* code={code} ")
    assert "client=127.0.0.1:" in at_relay
    assert message(at_relay) == at_client
    client.end()
    return at_client


def test_a_key_that_the_relay_does_not_know(suite: Suite) -> None:
    relay = suite.relay()
    stranger = suite.new_identity("stranger")
    assert refused_by_relay(suite, relay, "unknown-key", "-a", "cert/stranger") == (
        f"the relay does not know key {stranger.public.fingerprint}; to admit it, add this line to"
        f" cert/auth.pub on the relay and send the relay a SIGHUP: {bare(stranger)}"
    )
    # The next step works as it is written.
    with suite.path("auth.pub").open("a") as file:
        file.write(stranger.public.openssh() + "\n")
    relay.signal(signal.SIGHUP)
    relay.wait_log("reloaded")
    client = suite.start(
        "entry-point", "-s", str(relay.addresses()[0]), "-r", "0:9", "-a", "cert/stranger"
    )
    client.wait_log("relay connected")


OPTIONS = {
    "expired-key": (
        'expiry-time="20200101Z"',
        "expired at 2020-01-01 00:00:00 UTC; set a later expiry-time=, or make a new key",
    ),
    "wrong-role": (
        'role="reverse-proxy"',
        "may be reverse-proxy, not entry-point; use another key, or change role=",
    ),
    "wrong-group": (
        'group="office,lab-*"',
        "may not join group '0', only office, lab-*; use another group, or change group=",
    ),
    "from-mismatch": (
        'from="192.0.2.0/24,!192.0.2.7"',
        "may not come from 127.0.0.1, only from 192.0.2.0/24, !192.0.2.7; connect from there, or"
        " change from=",
    ),
}


def test_what_the_options_of_a_key_forbid(suite: Suite) -> None:
    names = {code: suite.new_identity(code) for code in OPTIONS}
    lines = [(options, names[code]) for code, (options, _) in OPTIONS.items()]
    relay = suite.relay("-a", trusted(suite, "keys", *lines))
    for number, (code, (_, reason)) in enumerate(OPTIONS.items(), start=1):
        assert refused_by_relay(suite, relay, code, "-a", f"cert/{code}") == (
            f"key {names[code].public.fingerprint} (cert/keys:{number}) {reason}"
        )
    assert relay.metric("links_denied") >= len(OPTIONS)
    assert relay.metric("links_welcomed") == 0


def test_a_reverse_proxy_is_refused_alike(suite: Suite) -> None:
    key = suite.new_identity("key")
    relay = suite.relay("-a", trusted(suite, "keys", ("role=entry-point", key)))
    said = refused_by_relay(suite, relay, "wrong-role", "-a", "cert/key", program="reverse-proxy")
    assert "may be entry-point, not reverse-proxy; use another key, or change role=" in said


def test_another_version_of_the_protocol(suite: Suite) -> None:
    relay = suite.relay()
    with dial(suite, relay) as client:
        send(client.tls, client.hello("entry-point", versions=(7, 9)))
        expected = (
            "this relay speaks version 1 of the protocol, the client 7, 9; use programs of the"
            " same release"
        )
        assert receive(client.tls) == Denied("wrong-version", expected)
    assert message(relay.wait_log("code=wrong-version")) == expected


# Files


@pytest.mark.parametrize(
    ("program", "flag", "name", "mode"),
    [
        ("entry-point", "-a", "auth", 0o640),
        ("reverse-proxy", "-a", "auth", 0o604),
        ("relay-server", "-k", "server.key", 0o620),
    ],
)
def test_a_private_key_that_others_can_reach(
    suite: Suite, program: str, flag: str, name: str, mode: int
) -> None:
    suite.path(name).chmod(mode)
    routes = ("-r", "0:9") if program == "entry-point" else ()
    client = suite.start(program, flag, f"cert/{name}", *routes)
    assert client.wait() == 2
    assert client.log == (
        f"{program}: error: cert/{name}: a private key that others can read or write (mode"
        f" {mode:04o}); run: chmod 600 cert/{name}"
    )


def test_trusted_keys_that_others_can_write(suite: Suite) -> None:
    suite.path("auth.pub").chmod(0o666)
    relay = suite.start("relay-server", "-p", "0")
    assert relay.wait() == 2
    assert relay.log == (
        "relay-server: error: cert/auth.pub: others may write this file (mode 0666) and so decide"
        " who comes in; run: chmod go-w cert/auth.pub"
    )


# Partners


def test_trusted_keys_that_can_be_no_partner_are_named(suite: Suite) -> None:
    """Only the relay sees addresses, so from= refuses a key at a client."""
    names = {code: suite.new_identity(code) for code in OPTIONS}
    lines = [
        (options.replace("reverse-proxy", "entry-point"), names[code])
        for code, (options, _) in OPTIONS.items()
    ]
    keys = trusted(suite, "partners", *lines)
    relay = suite.relay()
    entry_point = suite.entry_point(relay, "-r", "0:9", "-t", keys, "--wait", "0.5", channels=0)
    expected = {
        "expired-key": OPTIONS["expired-key"][1],
        "wrong-role": "may be entry-point, not reverse-proxy; use another key, or change role=",
        "wrong-group": OPTIONS["wrong-group"][1],
        "from-mismatch": (
            "has from=, which cannot be checked here: only the relay sees the address; put from="
            " into the relay's trusted keys"
        ),
    }
    for number, (code, reason) in enumerate(expected.items(), start=1):
        line = entry_point.wait_log(f"a trusted key can be no partner.* code={code} ")
        assert message(line) == (
            f"key {names[code].public.fingerprint} (cert/partners:{number}) {reason}"
        )
    # And a source learns why it finds nobody.
    with pytest.raises(ConnectionResetError), connected(entry_point.addresses()[0]) as source:
        source.recv(1)
    assert message(entry_point.wait_log("outcome=no-channel")) == (
        "no key in --trusted-keys can be a partner now; the log says why for each"
    )
    # A key added later is used without a restart, and the warnings come again.
    trusted(suite, "partners", *lines, ("", suite.identity))
    suite.reverse_proxy(relay, "-t", trusted(suite, "both", ("", suite.identity)))
    entry_point.signal(signal.SIGHUP)
    entry_point.wait_metric("channels_idle", lambda count: count >= 1)


def test_partners_that_do_not_trust_each_other_never_meet(
    suite: Suite, echo_server: TcpServer
) -> None:
    left, right = suite.new_identity("left"), suite.new_identity("right")
    relay = suite.relay("-a", trusted(suite, "keys", ("", left), ("", right)))
    reverse_proxy = suite.reverse_proxy(
        relay, "-a", "cert/right", "-t", trusted(suite, "right-trusts", ("", right))
    )
    entry_point = suite.entry_point(
        relay,
        *("-a", "cert/left", "-t", trusted(suite, "left-trusts", ("", right))),
        *("-r", f"0:{echo_server.address}", "--wait", "0.5"),
        channels=0,
    )
    with pytest.raises(ConnectionResetError), connected(entry_point.addresses()[0]) as source:
        source.recv(1)
    assert message(entry_point.wait_log("outcome=no-channel")) == (
        "no reverse-proxy of group '0' that trusts this key, and is trusted, has a link at the"
        " relay"
    )
    assert relay.metric("pairs_made") == 0
    # The next step: trust it, and say so with a SIGHUP. Links that wait already learn of it.
    trusted(suite, "right-trusts", ("", right), ("", left))
    reverse_proxy.signal(signal.SIGHUP)
    entry_point.wait_metric("channels_idle", lambda count: count >= 1)
    with connected(entry_point.addresses()[0]) as source:
        source.sendall(b"now we talk")
        assert source.recv(100) == b"now we talk"


def test_what_a_relay_says_about_a_key_in_a_deep_directory_arrives(suite: Suite) -> None:
    """A DENIED has room for 1,024 characters; a path may be longer than that."""
    deep = Path("cert", *["d" * 200] * 6)
    (suite.directory / deep).mkdir(parents=True)
    (suite.directory / deep / "keys").write_bytes(suite.path("auth.pub").read_bytes())
    relay = suite.relay("-a", str(deep / "keys"))
    suite.new_identity("stranger")
    client = suite.start(
        "entry-point", "-s", str(relay.addresses()[0]), "-r", "0:9", "-a", "cert/stranger"
    )
    assert "the relay does not know key SHA256:" in client.wait_log("relay trouble")


def test_the_process_that_refuses_lives_on(suite: Suite) -> None:
    """Refusals leave nothing behind: no stranger, no descriptor."""
    relay = suite.relay()
    stranger = suite.new_identity("stranger")
    before = relay.descriptors()
    for _ in range(50):
        with dial(suite, relay, stranger) as client:
            assert isinstance(client.login("entry-point"), Denied)
    wait_for(lambda: relay.metric("strangers") == 0, "all are gone")
    wait_for(lambda: relay.descriptors() <= before, "no descriptor is left behind")
    assert sum("connection refused" in line for line in relay.lines) == 5
    assert os.path.exists(f"/proc/{relay.pid}")
