"""Certificates that strangers show: a key comes out, or a sentence for both sides."""

from __future__ import annotations

import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from common.errors import HandshakeError
from common.introduction import anchor, credentials, peer_key
from common.keys import Identity
from tests.fuzz.outcome import outcome

IDENTITY: Final = Identity.from_seed(bytes(range(32)))
LEAF: Final = x509.load_pem_x509_certificate(credentials(IDENTITY)).public_bytes(Encoding.DER)
ED25519: Final = b"\x30\x05\x06\x03\x2b\x65\x70"


def other_kind() -> bytes:
    """Return a certificate with a key of another kind, always the same."""
    key, name = derive_private_key(7, SECP256R1()), x509.Name([])
    begin = datetime.datetime(2020, 1, 1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin)
    return builder.sign(key, SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


OTHER: Final = other_kind()
SEEDS: Final = (
    LEAF,
    OTHER,
    anchor(),
    b"",
    b"\x30\x03\x02\x01\x01",
    LEAF.replace(ED25519, ED25519[:-1] + b"\x6e"),
)
WORDS: Final = (
    *(ED25519, ED25519[:-1] + b"\x71", ED25519[:-1] + b"\x6e", b"\x03\x21\0", b"\x03\x20\0"),
    *(b"\x03\x03\x55\x1d\x13", b"\x30\x82", b"\xa0\x03\x02\x01\x02", b"\x17\x0d", b"\x06\x07"),
    b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
    b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\0",
)


def check(data: bytes) -> None:
    key = outcome(HandshakeError, lambda: peer_key(data))
    if isinstance(key, HandshakeError):
        assert str(key)
        return
    assert len(key) == 32
    assert key in data
