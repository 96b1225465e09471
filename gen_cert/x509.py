"""The relay's TLS certificate: self-signed, for clients that pin it.

ECDSA P-256 with SHA-256, after RFC 5280 and strict enough for OpenSSL's ``X509_STRICT``. It is an
end entity and its own trust anchor: ``CA:FALSE`` and no ``keyCertSign``, so whoever steals its key
can pose as this relay but cannot issue certificates for anybody else.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gen_cert.names import Names

CLOCK_SKEW = datetime.timedelta(hours=1)
"""How long before now a certificate becomes valid: clients' clocks may be slow."""

_MOST_COMMON_NAME_CHARS = 64  # ub-common-name, RFC 5280 appendix A.1
_FALLBACK_COMMON_NAME = "relay-server"


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A certificate and its key.

    Args:
        certificate: PEM.
        key: PEM, PKCS #8, unencrypted.
        fingerprint: SHA-256 of the certificate's DER as ``openssl x509 -fingerprint`` prints it:
            32 pairs of upper-case hex digits with colons between them.
        not_after: the last moment it is valid, in UTC.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    fingerprint: str
    not_after: datetime.datetime


def make_certificate(names: Names, days: int, now: datetime.datetime) -> ServerCertificate:
    """Return a new certificate with a new key.

    Args:
        names: what it is valid for.
        days: how many days from ``now`` it is valid, at least 1.
        now: aware.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    # Whole seconds: X.509 has no others (RFC 5280 section 4.1.2.5).
    not_after = now.astimezone(datetime.UTC).replace(microsecond=0) + datetime.timedelta(days=days)
    certificate = _sign(key, names, now - CLOCK_SKEW, not_after)
    return ServerCertificate(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
        not_after,
    )


def _sign(
    key: ec.EllipticCurvePrivateKey,
    names: Names,
    not_before: datetime.datetime,
    not_after: datetime.datetime,
) -> x509.Certificate:
    public = key.public_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _common_name(names))])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    san = x509.SubjectAlternativeName(
        [*map(x509.DNSName, names.dns), *map(x509.IPAddress, names.ips)]
    )
    own_key = x509.SubjectKeyIdentifier.from_public_key(public)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(san, critical=False)
        .add_extension(own_key, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own_key),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )


def _common_name(names: Names) -> str:
    first = str(names).split(", ", 1)[0]
    return first if len(first) <= _MOST_COMMON_NAME_CHARS else _FALLBACK_COMMON_NAME
