from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from common import tls
from common.errors import HandshakeError, KeyFileError, LinkLost, PeerError
from common.frames import INNER_ALPN
from common.sockets import close_with_reset
from common.tls import (
    SYSTEM_ROOTS,
    handshake,
    link_context,
    opener_context,
    proven_key,
    relay_context,
    unwrap,
    wrap,
)
from common.wire import ALPN
from tests.common.loops import on_both_loops, run, turns
from tests.common.sessions import ANN, BOB, EVE, contexts, tcp_pair, tls_pair

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


class Issuer:
    """Makes certificates as a relay may have them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An Authority")])
        self.path = str(directory / "ca.crt")
        own = self._sign(self._name, self._key, NOW + DAY, ca=True, names=())
        Path(self.path).write_bytes(own.public_bytes(Encoding.PEM))

    def make(
        self,
        file: str,
        *names: str,
        until: datetime.datetime = NOW + DAY,
        self_signed: bool = True,
    ) -> tuple[str, str]:
        """Write ``file.crt`` and ``file.key`` and return their paths."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay")])
        certificate = self._sign(name, key, until, ca=False, names=names, own=self_signed)
        paths = self._directory / f"{file}.crt", self._directory / f"{file}.key"
        paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return str(paths[0]), str(paths[1])

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        until: datetime.datetime,
        *,
        ca: bool,
        names: tuple[str, ...],
        own: bool = False,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if own else self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 9 * DAY)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
        if names:
            alternatives: list[x509.GeneralName] = [
                x509.IPAddress(ipaddress.ip_address(each))
                if each[0].isdigit()
                else x509.DNSName(each)
                for each in names
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
        return builder.sign(key if own else self._key, SHA256())


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def relay_files(issuer: Issuer) -> tuple[str, str]:
    return issuer.make("server", "localhost", "127.0.0.1")


Sessions = tuple[ssl.SSLSocket, ssl.SSLSocket]


async def meet(
    client: ssl.SSLContext,
    server: ssl.SSLContext,
    alpn: str = ALPN,
    name: str | None = "localhost",
) -> tuple[PeerError | None, PeerError | None, Sessions]:
    """Run both handshakes; return what went wrong at the client and at the server."""
    left, right = tcp_pair()
    one = wrap(client, left, server=False, name=name if client.check_hostname else None)
    two = wrap(server, right, server=True)

    async def side(session: ssl.SSLSocket) -> PeerError | None:
        try:
            await handshake(session, alpn)
        except PeerError as error:
            session.close()
            return error
        return None

    errors = await asyncio.gather(side(one), side(two))
    return errors[0], errors[1], (one, two)


def outcome(
    client: ssl.SSLContext, server: ssl.SSLContext, name: str | None = "localhost"
) -> tuple[str, str]:
    """What went wrong at the client and at the server; empty if nothing did."""
    result = "", ""

    async def main() -> None:
        nonlocal result
        one, two, sessions = await meet(client, server, name=name)
        result = str(one or ""), str(two or "")
        for each in sessions:
            each.close()

    run("asyncio", main)
    return result


@on_both_loops
def test_each_side_learns_the_other_s_key(kind: str, relay_files: tuple[str, str]) -> None:
    async def main() -> None:
        one, two, (client, server) = await meet(
            link_context(ANN, relay_files[0]), relay_context(*relay_files)
        )
        assert (one, two) == (None, None)
        assert client.version() == server.version() == "TLSv1.3"
        assert proven_key(server) == ANN.public.raw
        with pytest.raises(HandshakeError, match="not an ed25519 key"):
            proven_key(client)  # the relay has no identity, but a certificate
        client.close()
        server.close()
        opener, acceptor = await tls_pair()
        assert (proven_key(opener), proven_key(acceptor)) == (BOB.public.raw, ANN.public.raw)
        opener.close()
        acceptor.close()

    run(kind, main)


def test_a_key_nobody_expects_is_a_key_all_the_same() -> None:
    """The chain proves nothing: comparing the key is the caller's, and this is why."""

    async def main() -> None:
        _, acceptor = contexts()
        one, two, (client, server) = await meet(opener_context(EVE), acceptor, INNER_ALPN)
        assert (one, two) == (None, None)
        assert proven_key(server) == EVE.public.raw
        client.close()
        server.close()

    run("asyncio", main)


def test_a_session_is_dropped_between_two_records_and_the_socket_lives_on() -> None:
    async def main() -> None:
        one, two = await tls_pair()
        one.send(b"last outer word")
        left = unwrap(one)
        left.send(b"raw")
        await turns()
        assert two.recv(15) == b"last outer word"
        assert not two.pending()
        right = unwrap(two)
        assert not right.getblocking()
        assert right.recv(100) == b"raw"
        left.close()
        right.close()

    run("asyncio", main)


def test_the_server_sends_no_tickets(relay_files: tuple[str, str]) -> None:
    async def main() -> None:
        _, _, (client, server) = await meet(
            link_context(ANN, relay_files[0]), relay_context(*relay_files)
        )
        client.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):
            client.recv(1)
        with pytest.raises(BlockingIOError):
            socket.socket.recv(client, 1, socket.MSG_PEEK)
        assert client.session is None or not client.session.has_ticket
        client.close()
        server.close()

    run("asyncio", main)


def test_a_client_without_a_certificate_is_refused(relay_files: tuple[str, str]) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(relay_files[0])
    client.set_alpn_protocols([ALPN])
    one, two = outcome(client, relay_context(*relay_files))
    assert one == ""  # a TLS 1.3 client has finished before it is judged
    assert two == "peer did not return a certificate"


def test_a_client_with_a_certificate_of_its_own_making_is_refused(
    relay_files: tuple[str, str], issuer: Issuer
) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(relay_files[0])
    client.load_cert_chain(*issuer.make("stranger"))
    client.set_alpn_protocols([ALPN])
    _, two = outcome(client, relay_context(*relay_files))
    assert two.startswith("certificate verify failed: ")


def test_tls_1_2_is_refused(relay_files: tuple[str, str]) -> None:
    client = link_context(ANN, relay_files[0])
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_2
    one, two = outcome(client, relay_context(*relay_files))
    assert "protocol version" in one
    assert two == "unsupported protocol"


@pytest.mark.parametrize("protocols", [["http/1.1"], [INNER_ALPN], []])
def test_another_protocol_is_refused(relay_files: tuple[str, str], protocols: list[str]) -> None:
    client = link_context(ANN, relay_files[0])
    client.set_alpn_protocols(protocols or [])
    _, two = outcome(client, relay_context(*relay_files))
    assert two == f"the peer does not speak {ALPN}; is it a program of this suite?"


def test_a_pinned_certificate_counts_under_any_name(relay_files: tuple[str, str]) -> None:
    client = link_context(ANN, relay_files[0])
    assert not client.check_hostname
    assert outcome(client, relay_context(*relay_files), "198.51.100.1") == ("", "")


def test_a_certificate_issued_by_others_can_be_pinned(issuer: Issuer) -> None:
    files = issuer.make("issued", "relay.example", self_signed=False)
    assert outcome(link_context(ANN, files[0]), relay_context(*files)) == ("", "")


def test_another_certificate_with_the_same_name_is_refused(
    relay_files: tuple[str, str], issuer: Issuer
) -> None:
    impostor = issuer.make("impostor", "localhost", "127.0.0.1")
    one, two = outcome(link_context(ANN, relay_files[0]), relay_context(*impostor))
    assert one.startswith("certificate verify failed: ")
    assert "alert" in two


def test_an_expired_certificate_is_refused_even_if_it_is_pinned(issuer: Issuer) -> None:
    files = issuer.make("expired", "localhost", until=NOW - DAY)
    one, _ = outcome(link_context(ANN, files[0]), relay_context(*files))
    assert one == "certificate verify failed: certificate has expired"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("relay.example", ""),
        ("192.0.2.1", ""),
        ("other.example", "Hostname mismatch"),
        ("192.0.2.2", "IP address mismatch"),
    ],
)
def test_with_an_authority_the_name_is_checked(issuer: Issuer, name: str, words: str) -> None:
    files = issuer.make("member", "relay.example", "192.0.2.1", self_signed=False)
    client = link_context(ANN, issuer.path)
    assert client.check_hostname
    one, _ = outcome(client, relay_context(*files), name)
    assert words in one
    assert bool(one) is bool(words)


def test_the_system_s_roots_do_not_know_our_certificate_and_check_names(
    relay_files: tuple[str, str],
) -> None:
    client = link_context(ANN, SYSTEM_ROOTS)
    assert client.check_hostname
    one, _ = outcome(client, relay_context(*relay_files))
    assert one.startswith("certificate verify failed: self")


def test_files_that_do_not_fit_are_named(
    tmp_path: Path, relay_files: tuple[str, str], issuer: Issuer
) -> None:
    other = issuer.make("other")
    with pytest.raises(KeyFileError, match=r"cannot use .*server.crt with .*other.key: .*gen-cert"):
        relay_context(relay_files[0], other[1])
    with pytest.raises(
        KeyFileError, match=r"cannot read the relay's certificate .*no.crt: No such"
    ):
        link_context(ANN, str(tmp_path / "no.crt"))
    (tmp_path / "text.crt").write_text("hello")
    with pytest.raises(KeyFileError, match=r"text.crt holds no certificate in PEM form; copy"):
        link_context(ANN, str(tmp_path / "text.crt"))


def test_the_key_reaches_openssl_without_memfd_too(
    monkeypatch: pytest.MonkeyPatch, relay_files: tuple[str, str]
) -> None:
    monkeypatch.delattr(tls.os, "memfd_create")  # type: ignore[attr-defined]
    client = link_context(ANN, relay_files[0])
    assert outcome(client, relay_context(*relay_files)) == ("", "")


@on_both_loops
@pytest.mark.parametrize("how", ["fin", "rst", "noise"])
def test_a_peer_that_ends_or_talks_nonsense_is_an_error_of_its_own(
    kind: str, how: str, relay_files: tuple[str, str]
) -> None:
    async def main() -> None:
        left, right = tcp_pair()
        session = wrap(relay_context(*relay_files), right, server=True)
        shaking = asyncio.create_task(handshake(session, ALPN))
        await turns()
        if how == "noise":
            left.send(b"GET / HTTP/1.1\r\n\r\n")
        elif how == "rst":
            close_with_reset(left)
        else:
            left.close()
        with pytest.raises(HandshakeError if how == "noise" else PeerError):
            await shaking
        session.close()
        left.close()

    run(kind, main)


def test_a_connection_that_has_ended_already_cannot_be_wrapped(
    relay_files: tuple[str, str],
) -> None:
    async def main() -> None:
        left, right = tcp_pair()
        left.send(b"x")
        close_with_reset(left)
        with pytest.raises(LinkLost, match="the connection ended before the TLS handshake"):
            wrap(relay_context(*relay_files), right, server=True)
        assert right.fileno() == -1

    run("asyncio", main)
