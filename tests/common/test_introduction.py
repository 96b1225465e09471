from __future__ import annotations

import contextlib
import datetime
import re
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from common.errors import HandshakeError
from common.introduction import anchor, credentials, peer_key
from common.keys import Identity
from tests.common.sessions import ANN, BOB


def leaf(identity: Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificate(credentials(identity))


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def test_the_leaf_shows_the_identity_s_own_key() -> None:
    assert peer_key(der(leaf(ANN))) == ANN.public.raw
    assert peer_key(der(leaf(BOB))) == BOB.public.raw


def test_the_credentials_hold_the_private_key() -> None:
    key = load_pem_private_key(credentials(ANN), None)
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    assert key.public_key().public_bytes_raw() == ANN.public.raw


def test_the_same_identity_always_makes_the_same_leaf() -> None:
    assert credentials(ANN) == credentials(ANN)


def test_every_leaf_is_issued_by_the_anchor_and_is_no_authority() -> None:
    root = x509.load_der_x509_certificate(anchor())
    certificate = leaf(ANN)
    certificate.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert not constraints.value.ca
    assert certificate.not_valid_after_utc.year == 9999


def test_the_leaf_says_nothing_about_its_machine() -> None:
    assert leaf(ANN).subject == leaf(BOB).subject
    assert leaf(ANN).serial_number == leaf(BOB).serial_number


def test_no_certificate_is_no_key() -> None:
    with pytest.raises(HandshakeError, match=re.escape("the peer showed no key; is it a client")):
        peer_key(None)


def test_another_kind_of_key_is_named() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    now = datetime.datetime(2026, 1, 1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, SHA256())
    )
    with pytest.raises(HandshakeError, match=r"showed a \w*ECPublicKey\w*, not an ed25519 key"):
        peer_key(der(certificate))


@given(st.binary(max_size=64), st.integers(0, 10_000), st.integers(0, 255))
def test_whatever_is_shown_has_a_key_or_is_refused(noise: bytes, where: int, byte: int) -> None:
    damaged = bytearray(der(leaf(ANN)))
    damaged[where % len(damaged)] = byte
    for certificate in (noise, bytes(damaged)):
        with warnings.catch_warnings(action="ignore"), contextlib.suppress(HandshakeError):
            assert len(peer_key(certificate)) == 32


@pytest.mark.parametrize("version", range(256))
def test_a_version_of_x509_that_is_not_known_is_refused(version: int) -> None:
    certificate = bytearray(der(leaf(ANN)))
    where = certificate.index(b"\xa0\x03\x02\x01\x02") + 4
    certificate[where] = version
    if version == 2:
        assert peer_key(bytes(certificate)) == ANN.public.raw
    else:
        with pytest.raises(HandshakeError, match="the peer's certificate cannot be read: "):
            peer_key(bytes(certificate))
