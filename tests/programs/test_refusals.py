"""Who may not come in is told so: the cause and the next step, at the client and at the relay.

The messages are pinned, for they are what a person acts on.
"""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from common.addresses import HostPort
from common.key_files import write_private, write_public
from common.keys import Identity
from common.wire import Denied
from gen_cert.names import parse_names
from gen_cert.x509 import make_certificate
from tests.programs.evil_client import EvilClient, receive, send
from tests.programs.harness import Program, Suite, TcpServer, connected, wait_for


def trusted(suite: Suite, name: str, *lines: tuple[str, Identity]) -> str:
    """Write a trusted keys file; each line is options (or nothing) and a key."""
    path = suite.path(name)
    text = "".join(f"{options} {each.public.openssh()}\n".lstrip() for options, each in lines)
    path.write_text(text)
    path.chmod(0o600)
    return f"cert/{name}"


def certificate(suite: Suite, name: str, *, made: datetime | None = None) -> tuple[str, str]:
    """Write another certificate of the relay, valid for a day from ``made``."""
    names = parse_names(["localhost"], ["127.0.0.1"])
    files = make_certificate(names, 1, made or datetime.now(UTC))
    write_public(suite.path(f"{name}.crt"), files.certificate)
    write_private(suite.path(f"{name}.key"), files.key)
    return f"cert/{name}.crt", f"cert/{name}.key"


def message(line: str) -> str:
    """Return the reason (or detail) of a log line, without its escapes."""
    match = re.search(r'(?:reason|detail)=(?:"((?:[^"\\]|\\.)*)"|(\S+))', line)
    assert match, line
    return (match[1] or match[2]).replace('\\"', '"').replace("\\\\", "\\")


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
    path = str(suite.path("server.crt"))
    with EvilClient(relay.addresses()[0], suite.identity, path) as client:
        send(client.tls, client.hello("entry-point", versions=(7, 9)))
        expected = (
            "this relay speaks version 1 of the protocol, the client 7, 9; use programs of the"
            " same release"
        )
        assert receive(client.tls) == Denied("wrong-version", expected)
    assert message(relay.wait_log("code=wrong-version")) == expected


# The relay is not who it should be


def trouble(suite: Suite, relay: HostPort, *args: str) -> str:
    client = suite.start("entry-point", "-s", str(relay), "-r", "0:9", *args)
    reason = message(client.wait_log("relay trouble"))
    client.end()
    return reason


def test_a_relay_with_another_certificate(suite: Suite) -> None:
    certificate(suite, "other")
    relay = suite.relay("-c", "cert/other.crt", "-k", "cert/other.key")
    address = relay.addresses()[0]
    assert trouble(suite, address) == (
        f"certificate verify failed: self-signed certificate; {address} does not show the"
        " certificate in --server-cert; copy server.crt from the relay, and if it is the same"
        " already, somebody else answers there"
    )
    line = relay.wait_log("connection refused.* code=no-login ")
    assert message(line) == (
        "tlsv1 alert unknown ca; the client does not accept this relay's certificate: copy"
        " server.crt to it, and name it with --server-cert there"
    )


def test_an_expired_certificate_of_the_relay(suite: Suite) -> None:
    crt, key = certificate(suite, "old", made=datetime.now(UTC) - timedelta(days=30))
    relay = suite.relay("-c", crt, "-k", key)
    relay.wait_log(r"clients refuse this certificate file=cert/old\.crt reason=\"it expired at ")
    address = relay.addresses()[0]
    assert trouble(suite, address, "-c", crt) == (
        "certificate verify failed: certificate has expired; make a new one on the relay:"
        " gen-cert x509 --force"
    )
    line = relay.wait_log("connection refused.* code=no-login ")
    assert message(line) == (
        "sslv3 alert certificate expired; this relay's certificate has expired: gen-cert x509"
        " --force"
    )


def test_a_certificate_from_the_future(suite: Suite) -> None:
    crt, key = certificate(suite, "new", made=datetime.now(UTC) + timedelta(days=30))
    relay = suite.relay("-c", crt, "-k", key)
    assert trouble(suite, relay.addresses()[0], "-c", crt) == (
        "certificate verify failed: certificate is not yet valid; this machine's clock is wrong,"
        " or the relay's was when its certificate was made"
    )


def serve_http(sock: socket.socket) -> None:
    sock.recv(4096)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def hang_up(sock: socket.socket) -> None:
    sock.recv(4096)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (serve_http, "wrong version number; is {} a relay-server of this suite?"),
        (hang_up, "unexpected eof while reading; is {} a relay-server of this suite?"),
    ],
)
def test_not_a_relay_at_all(
    suite: Suite, answer: Callable[[socket.socket], None], reason: str
) -> None:
    with TcpServer(answer) as server:
        assert trouble(suite, server.address) == reason.format(server.address)


def test_nobody_there(suite: Suite) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = HostPort("127.0.0.1", unused.getsockname()[1])
    assert re.match(
        rf"cannot reach the relay at {address}: (\[Errno 111\] )?.*refused",
        trouble(suite, address),
        re.IGNORECASE,
    )


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


# Destinations


def destination_refused(suite: Suite, route: str, *allow: str, keys: str = "") -> str:
    """Return the detail that both ends log when a source asks for ``route``."""
    relay = suite.relay()
    trust = ("-t", keys) if keys else ()
    reverse_proxy = suite.reverse_proxy(relay, *allow, *trust)
    entry_point = suite.entry_point(relay, "-r", route)
    with pytest.raises(ConnectionResetError), connected(entry_point.addresses()[0]) as source:
        source.recv(1)
    details = [message(each.wait_log("outcome=refused")) for each in (entry_point, reverse_proxy)]
    assert details[0].removesuffix("…") == details[1][: len(details[0].removesuffix("…"))]
    assert len(details[0]) > 1000 or details[0] == details[1]
    # The channel is as good as before.
    entry_point.wait_metric("channels_idle", lambda count: count >= 1)
    assert relay.metric("pairs_ended") == 0
    return details[0]


def test_a_destination_that_allow_does_not_list(suite: Suite, echo_server: TcpServer) -> None:
    address = echo_server.address
    detail = destination_refused(suite, f"0:{address}", "--allow", "192.0.2.0/24:80,db.example")
    assert detail == (
        f"not-permitted: 127.0.0.1 port {address.port} is not in the list of --allow"
        f" (192.0.2.0/24:80, db.example:*); add {address} to it at the reverse-proxy"
    )
    assert echo_server.accepted == 0


def test_a_destination_that_permitopen_does_not_list(suite: Suite, echo_server: TcpServer) -> None:
    long = [f'permitopen="{"a" * 60}.{"b" * 60}.{"c" * 60}.{n}.example:5432"' for n in range(5)]
    keys = trusted(suite, "keys", (",".join(long), suite.identity))
    detail = destination_refused(suite, f"0:{echo_server.address}", keys=keys)
    assert detail.startswith(
        f"not-permitted: key {suite.identity.public.fingerprint} (cert/keys:1) may not open"
        f" 127.0.0.1 port {echo_server.address.port}, only {'a' * 60}."
    )
    assert echo_server.accepted == 0


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]"])
def test_link_local_addresses_are_refused_unless_named(suite: Suite, host: str) -> None:
    detail = destination_refused(suite, f"0:{host}:80")
    address = {"[fe80::1]": "fe80::1"}.get(host, "169.254.169.254")
    kind = "link-local" if address == "fe80::1" else "the cloud's metadata service"
    entry = "[fe80::1]:80" if address == "fe80::1" else "169.254.169.254:80"
    assert detail == (
        f"guarded-address: {address} port 80 is refused: {address} is {kind}; if it is meant,"
        f" add --allow '*,{entry}' at the reverse-proxy"
    )


# Second thoughts


def closes(source: socket.socket) -> bool:
    try:
        return not source.recv(1)
    except OSError:
        return True


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
        EvilClient(relay.addresses()[0], guest, str(suite.path("server.crt"))) as pending,
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
    moment = datetime.now(UTC) + timedelta(seconds=4)
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
    path = str(suite.path("server.crt"))
    for _ in range(50):
        with EvilClient(relay.addresses()[0], stranger, path) as client:
            assert isinstance(client.login("entry-point"), Denied)
    wait_for(lambda: relay.metric("strangers") == 0, "all are gone")
    wait_for(lambda: relay.descriptors() <= before, "no descriptor is left behind")
    assert sum("connection refused" in line for line in relay.lines) == 5
    assert os.path.exists(f"/proc/{relay.pid}")
