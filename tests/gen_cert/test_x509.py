"""The relay's certificate, as the ``ssl`` module, openssl and curl see it."""

from __future__ import annotations

import datetime
import hashlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from gen_cert.names import parse_names
from gen_cert.x509 import ServerCertificate, make_certificate

NAMES = parse_names(["localhost", "*.relay.example"], ["127.0.0.1", "::1"])


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@pytest.fixture(scope="module")
def made() -> ServerCertificate:
    return make_certificate(NAMES, 30, now())


@pytest.fixture(scope="module")
def files(made: ServerCertificate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("cert")
    (directory / "server.crt").write_bytes(made.certificate)
    (directory / "server.key").write_bytes(made.key)
    return directory


def test_what_it_says() -> None:
    moment = datetime.datetime(2025, 3, 1, 12, 0, 0, 999_999, datetime.UTC)
    made = make_certificate(NAMES, 30, moment)
    certificate = x509.load_pem_x509_certificate(made.certificate)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    assert start == datetime.datetime(2025, 3, 1, 11, 0, 0, tzinfo=datetime.UTC)
    assert end == datetime.datetime(2025, 3, 31, 12, 0, 0, tzinfo=datetime.UTC) == made.not_after
    assert certificate.subject == certificate.issuer
    assert 2**64 < certificate.serial_number < 2**159

    extensions = certificate.extensions
    san = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert tuple(san.get_values_for_type(x509.DNSName)) == NAMES.dns
    assert tuple(san.get_values_for_type(x509.IPAddress)) == NAMES.ips
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == [ExtendedKeyUsageOID.SERVER_AUTH]
    own = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    authority = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert own.digest == authority.key_identifier

    key = load_pem_private_key(made.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert key.public_key() == certificate.public_key()
    certificate.verify_directly_issued_by(certificate)


def test_another_time_zone_changes_nothing() -> None:
    moment = datetime.datetime(
        2025, 3, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=9))
    )
    assert make_certificate(NAMES, 1, moment).not_after.hour == 3


def test_each_has_its_own_key_and_serial_number(made: ServerCertificate) -> None:
    other = make_certificate(NAMES, 30, now())
    assert other.key != made.key
    assert other.fingerprint != made.fingerprint


def test_the_fingerprint_is_that_of_the_der(made: ServerCertificate) -> None:
    der = ssl.PEM_cert_to_DER_cert(made.certificate.decode())
    assert made.fingerprint.replace(":", "").lower() == hashlib.sha256(der).hexdigest()


def test_its_repr_does_not_show_the_key(made: ServerCertificate) -> None:
    assert "PRIVATE" not in repr(made)


def test_a_long_first_name_does_not_become_the_common_name() -> None:
    names = parse_names([f"{'a' * 63}.example"], [])
    certificate = x509.load_pem_x509_certificate(make_certificate(names, 1, now()).certificate)
    assert certificate.subject.rfc4514_string() == "CN=relay-server"


@pytest.fixture
def server(files: Path) -> Iterator[int]:
    """A TLS server on a loopback port that says hello, HTTP-wise, to whoever trusts it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.load_cert_chain(files / "server.crt", files / "server.key")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.settimeout(10)
            with sock:
                try:
                    with context.wrap_socket(sock, server_side=True) as tls:
                        tls.recv(4096)
                        tls.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")
                except OSError:
                    pass  # the client did not trust us

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def greet(port: int, context: ssl.SSLContext, name: str) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as sock,
        context.wrap_socket(sock, server_hostname=name) as tls,
    ):
        tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return tls.recv(4096)


STRICT = ssl.VERIFY_X509_STRICT
PARTIAL = ssl.VERIFY_X509_PARTIAL_CHAIN


@pytest.mark.parametrize("flags", [0, STRICT, PARTIAL, STRICT | PARTIAL])
@pytest.mark.parametrize("name", ["localhost", "a.relay.example", "127.0.0.1", "::1"])
def test_a_client_that_pins_it_trusts_it(server: int, files: Path, name: str, flags: int) -> None:
    context = ssl.create_default_context(cafile=files / "server.crt")
    context.verify_flags = ssl.VerifyFlags(flags)
    assert b"hello" in greet(server, context, name)


def test_a_client_that_pins_another_does_not(server: int, tmp_path: Path) -> None:
    (tmp_path / "other.crt").write_bytes(make_certificate(NAMES, 1, now()).certificate)
    context = ssl.create_default_context(cafile=tmp_path / "other.crt")
    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
        greet(server, context, "localhost")


def test_a_client_that_asks_for_another_name_does_not(server: int, files: Path) -> None:
    context = ssl.create_default_context(cafile=files / "server.crt")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"[Hh]ostname mismatch"):
        greet(server, context, "elsewhere.example")


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_openssl_verifies_it(files: Path, made: ServerCertificate) -> None:
    certificate = str(files / "server.crt")
    verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", certificate]
    for names in (["-verify_hostname", "localhost"], ["-verify_ip", "::1"]):
        subprocess.run([*verify, *names, certificate], check=True, timeout=30, capture_output=True)
    shown = subprocess.run(
        ["openssl", "x509", "-in", certificate, "-noout", "-fingerprint", "-sha256"],
        check=True,
        timeout=30,
        capture_output=True,
        text=True,
    )
    assert shown.stdout.strip().partition("=")[2] == made.fingerprint


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_curl_trusts_it(server: int, files: Path) -> None:
    url = f"https://127.0.0.1:{server}/"
    curl = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "20"]
    trusting = subprocess.run(
        [*curl, "--cacert", files / "server.crt", url], check=True, timeout=30, capture_output=True
    )
    assert trusting.stdout == b"hello"
    wary = subprocess.run([*curl, url], check=False, timeout=30, capture_output=True)
    assert wary.returncode == 60  # "peer certificate cannot be authenticated"
