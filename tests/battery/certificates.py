"""Certificates of the relay: of other times, by an authority, and files that hold none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from gen_cert.names import parse_names
from gen_cert.x509 import make_certificate
from tests.programs.harness import Suite

LONG = timedelta(days=30)
_PEM = Encoding.PEM


def pinned(suite: Suite, name: str, *, ago: timedelta = timedelta(), days: int = 60) -> None:
    """Write ``cert/<name>.crt`` and ``.key``, self-signed and made so long ago."""
    made = make_certificate(parse_names([], ["127.0.0.1"]), days, datetime.now(UTC) - ago)
    put(suite, f"{name}.crt", made.certificate)
    put(suite, f"{name}.key", made.key)


def put(suite: Suite, name: str, data: bytes) -> None:
    """Write a file of ``cert/``, in place of what is there, as if by ``mv``."""
    new = suite.path(f"{name}.new")
    new.touch(0o600)
    new.write_bytes(data)
    new.replace(suite.path(name))


def encrypted(key: bytes) -> bytes:
    """Return a private key behind a password."""
    secret = BestAvailableEncryption(b"secret")
    return load_pem_private_key(key, None).private_bytes(_PEM, PrivateFormat.PKCS8, secret)


class Authority:
    """Issues certificates for the relay; ``cert/<name>.crt`` is its own."""

    def __init__(self, suite: Suite, name: str) -> None:
        self._suite = suite
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        public = self._key.public_key()
        builder = self._builder(self._name, public, datetime.now(UTC) + LONG)
        builder = builder.add_extension(x509.BasicConstraints(True, 0), critical=True)
        put(suite, f"{name}.crt", builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM))

    def issue(self, name: str, until: datetime | None = None) -> None:
        """Write ``cert/<name>.crt`` and ``.key`` for 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        host = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
        builder = self._builder(subject, key.public_key(), until or datetime.now(UTC) + LONG)
        certificate = builder.add_extension(host, critical=False).sign(self._key, hashes.SHA256())
        put(self._suite, f"{name}.crt", certificate.public_bytes(_PEM))
        private = key.private_bytes(_PEM, PrivateFormat.PKCS8, NoEncryption())
        put(self._suite, f"{name}.key", private)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, until: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - LONG)
            .not_valid_after(until)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
