"""Certificates that introduce a raw ed25519 key to TLS (the idea of RFC 7250, with X.509 means).

TLS 1.3 proves that a peer holds the private key of the certificate it shows: it signs the whole
handshake with it (RFC 8446, section 4.4.3). What a certificate *says* is not needed here, for keys
are compared with keys. But the ``ssl`` module wants a chain that verifies, so every peer issues
itself a leaf for its own key in the name of the *introducer*, a key pair that is public knowledge:
it is derived from a fixed string below, and its signature means nothing.

Invariants:

* A verified chain proves nothing. The only statement about a peer is the key that
  :func:`peer_key` returns, and every caller compares it with the key it expected.
* The leaf holds nothing that can vary, so the same identity always makes the same leaf.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from common.errors import HandshakeError
from common.keys import Identity

_INTRODUCER: Final = "tcp-relay/1 introducer"
_VALID_FROM: Final = datetime.datetime(1970, 1, 1)
_VALID_UNTIL: Final = datetime.datetime(9999, 12, 31, 23, 59, 59)


@functools.cache
def _introducer() -> Ed25519PrivateKey:
    seed = hashlib.sha256(_INTRODUCER.encode()).digest()
    return Ed25519PrivateKey.from_private_bytes(seed)


def _certificate(subject: str, key: Ed25519PublicKey, *, anchor: bool) -> x509.Certificate:
    """Return the anchor, or a leaf, as RFC 5280 (section 4.2) wants it even in strict mode."""
    issuer = _introducer()
    usage = x509.KeyUsage(
        digital_signature=not anchor,
        key_cert_sign=anchor,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _INTRODUCER)]))
        .public_key(key)
        .serial_number(1 if anchor else 2)
        .not_valid_before(_VALID_FROM)
        .not_valid_after(_VALID_UNTIL)
        .add_extension(x509.BasicConstraints(anchor, 0 if anchor else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()),
            critical=False,
        )
        .sign(issuer, None)
    )


@functools.cache
def anchor() -> bytes:
    """Return the certificate (DER) that every introduced leaf verifies against."""
    key = _introducer().public_key()
    return _certificate(_INTRODUCER, key, anchor=True).public_bytes(Encoding.DER)


def credentials(identity: Identity) -> bytes:
    """Return the identity's private key and its leaf, as PEM for ``SSLContext.load_cert_chain``."""
    key = identity.private_key()
    leaf = _certificate("tcp-relay/1 identity", key.public_key(), anchor=False)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + leaf.public_bytes(
        Encoding.PEM
    )


def peer_key(certificate: bytes | None) -> bytes:
    """Return the raw ed25519 key (32 bytes) in the certificate (DER) that a peer showed.

    The TLS handshake has proved that the peer holds this key; whether it is the right one is for
    the caller to say.

    Raises:
        HandshakeError: there is no certificate, or its key is not an ed25519 key.
    """
    if certificate is None:
        raise HandshakeError("the peer showed no key; is it a client of this suite?")
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise HandshakeError(f"the peer's certificate cannot be read: {error}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise HandshakeError(f"the peer showed a {type(key).__name__}, not an ed25519 key")
    return key.public_bytes_raw()
