"""A relay that swaps partners, and one that talks for ever: it can deny, and nothing else.

What must hold, whatever it does: no application gets a byte that was not sent to it, and both
programs go on and are well again as soon as the relay behaves.
"""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from common import introduction
from common.frames import INNER_ALPN
from common.keys import Identity
from common.wire import Pong, Role, encode
from tests.programs.ends import connected
from tests.programs.evil_client import is_ended, open_frame
from tests.programs.evil_relay import EvilRelay, Wire
from tests.programs.harness import Suite, wait_for
from tests.programs.relay_between import Ledger, Stage, stage

__all__ = ["stage"]  # a fixture


def test_the_control_a_relay_that_behaves(stage: Stage) -> None:
    stage.check_health()
    stage.check_health()


def pem(key: object, certificate: x509.Certificate) -> bytes:
    assert hasattr(key, "private_bytes")
    private: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)


def introduced(key: object, identifier: Ed25519PublicKey | None = None) -> x509.Certificate:
    """Return a leaf for any key, signed by the introducer, as anybody can make one."""
    some_key = Identity.from_seed(bytes(range(32))).private_key().public_key()
    leaf = introduction._certificate("tcp-relay/1 identity", some_key, anchor=False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(leaf.issuer)
        .public_key(key)  # type: ignore[arg-type]
        .serial_number(leaf.serial_number)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
    )
    for extension in leaf.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectKeyIdentifier):
            owner = identifier or key
            value = x509.SubjectKeyIdentifier.from_public_key(owner)  # type: ignore[arg-type]
        builder = builder.add_extension(value, extension.critical)
    return builder.sign(introduction._introducer(), None)


def attackers_papers(kind: str, attacker: Identity, victim: Identity) -> bytes:
    own, key = introduction.credentials(attacker), attacker.private_key()
    match kind:
        case "its own key":
            return own
        case "its own key and the victim's leaf":
            return own + introduction.credentials(victim).split(b"-----END PRIVATE KEY-----\n")[1]
        case "its own key with the victim's identifier":
            return pem(key, introduced(key.public_key(), victim.private_key().public_key()))
        case "a P-256 key":
            other = ec.generate_private_key(ec.SECP256R1())
            return pem(other, introduced(other.public_key()))
        case "the introducer itself":
            anchor = x509.load_der_x509_certificate(introduction.anchor())
            return pem(introduction._introducer(), anchor)
    raise AssertionError(kind)


NOT_ANNOUNCED = "the partner's key is not the one that the relay announced"
PAPERS = {
    "its own key": NOT_ANNOUNCED,
    "its own key and the victim's leaf": NOT_ANNOUNCED,
    "its own key with the victim's identifier": NOT_ANNOUNCED,
    "a P-256 key": "not an ed25519 key",
    "the introducer itself": f"{NOT_ANNOUNCED}|certificate verify failed",
}


def attackers_session(
    suite: Suite, sock: socket.socket, papers: bytes, role: Role
) -> ssl.SSLSocket | None:
    """Agree on an inner session with these papers; ``None`` if the other side does not."""
    path = suite.path("attacker.pem")
    path.write_bytes(papers)
    server = role == "reverse-proxy"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([INNER_ALPN])
    context.load_cert_chain(path)
    sock.settimeout(5)
    try:
        return context.wrap_socket(sock, server_side=server)
    except OSError:
        return None


def test_an_attacker_that_is_announced_honestly_gets_no_ready(stage: Stage) -> None:
    attacker = stage.suite.new_identity("attacker").public
    with stage.source() as source:
        source.sendall(b"secret")
        for role, program in (
            ("entry-point", stage.entry_point),
            ("reverse-proxy", stage.reverse_proxy),
        ):
            link = stage.relay.take(role)  # type: ignore[arg-type]
            assert not link.announce(attacker.raw, opener=role == "entry-point")
            line = program.wait_log("no channel came of a pair")
            assert f"the relay offers partner {attacker.fingerprint}, which is not in" in line
    assert stage.ledger.server.accepted == 0
    stage.check_health()


def test_an_attacker_in_the_name_of_the_reverse_proxy_gets_no_byte(stage: Stage) -> None:
    attacker = stage.suite.new_identity("attacker")
    for kind, reason in PAPERS.items():
        with stage.source() as source:
            source.sendall(b"secret")
            raw = stage.relay.take("entry-point").pair(stage.suite.identity.public.raw, opener=True)
            papers = attackers_papers(kind, attacker, stage.suite.identity)
            tls = attackers_session(stage.suite, raw, papers, "reverse-proxy")
            if tls is not None:
                with tls, suppress(ConnectionError, ssl.SSLError):
                    assert tls.recv(100) == b"", kind
            stage.entry_point.wait_log(f"no channel came of a pair.*({reason})")
            stage.entry_point.lines.clear()
    assert stage.entry_point.metric("channels_opened") == 0
    stage.check_health()


def test_an_attacker_in_the_name_of_the_entry_point_opens_nothing(stage: Stage) -> None:
    attacker = stage.suite.new_identity("attacker")
    for kind, reason in PAPERS.items():
        raw = stage.relay.take("reverse-proxy").pair(stage.suite.identity.public.raw, opener=False)
        papers = attackers_papers(kind, attacker, stage.suite.identity)
        tls = attackers_session(stage.suite, raw, papers, "entry-point")
        if tls is not None:
            with tls, suppress(OSError):
                tls.sendall(open_frame(stage.ledger.server.address))
                assert is_ended(tls), kind
        stage.reverse_proxy.wait_log(f"no channel came of a pair.*({reason})")
        stage.reverse_proxy.lines.clear()
    assert stage.ledger.server.accepted == 0
    assert stage.reverse_proxy.metric("streams_opened") == 0
    stage.check_health()


def test_an_opener_without_a_certificate_opens_nothing(stage: Stage) -> None:
    raw = stage.relay.take("reverse-proxy").pair(stage.suite.identity.public.raw, opener=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([INNER_ALPN])
    with context.wrap_socket(raw) as tls, suppress(OSError):
        tls.sendall(open_frame(stage.ledger.server.address))
        assert is_ended(tls)
    stage.reverse_proxy.wait_log("peer did not return a certificate")
    assert stage.ledger.server.accepted == 0


def test_a_reverse_proxy_of_another_group_serves_nothing(suite: Suite) -> None:
    ledger = Ledger()
    with EvilRelay(suite) as relay, ledger.server as server:
        suite.reverse_proxy(relay.address, "-g", "theirs")
        entry_point = suite.entry_point(
            relay.address, "-g", "ours", "-r", f"0:{server.address}", channels=0
        )
        wire = relay.join()
        entry_point.wait_metric("channels_idle", lambda count: count == 1)
        with connected(entry_point.addresses()[0]) as source:
            source.sendall(b"secret")
            with pytest.raises(ConnectionResetError):
                source.recv(1)
        line = entry_point.wait_log("outcome=refused")
        assert "wrong-group: this reverse-proxy is of another group" in line
        assert server.accepted == 0
        wire.close()


@pytest.mark.parametrize("role", ["entry-point", "reverse-proxy"])
def test_two_of_a_kind_are_no_pair(stage: Stage, role: Role) -> None:
    key = stage.suite.identity.public.raw
    program = stage.entry_point if role == "entry-point" else stage.reverse_proxy
    opener = role == "entry-point"
    with stage.source() as source:
        source.sendall(b"secret")
        # Told the truth, it says no; told a lie, TLS has two clients or two servers.
        assert not stage.relay.take(role).announce(key, opener=not opener)
        program.wait_log("the relay gave this link the wrong part")
        one = stage.relay.take(role).pair(key, opener=opener)
        wire = Wire(one, stage.relay.take(role).pair(key, opener=opener))
        if opener:
            wait_for(lambda: wire.ended, "both give up")
        wire.close()
        # And one that is shown its own bytes.
        mirror = stage.relay.take(role).pair(key, opener=opener)
        mirror.settimeout(1)
        with suppress(OSError):
            while data := mirror.recv(65536):
                mirror.sendall(data)
        mirror.close()
    assert stage.entry_point.metric("channels_opened") == 0
    assert stage.reverse_proxy.metric("channels_opened") == 0
    assert stage.ledger.server.accepted == 0
    stage.check_health()


def test_a_relay_that_talks_for_ever_does_not_stop_the_program(stage: Stage) -> None:
    """Several relays may be in use: one that floods its clients must not hold up the others."""
    flooded = stage.relay.take("entry-point")
    stop = threading.Event()

    def flood() -> None:
        with suppress(OSError):
            while not stop.is_set():
                flooded.tls.send(encode(Pong()) * 4000)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        stage.check_health()
    finally:
        stop.set()
        flooded.tls.close()
        thread.join()
