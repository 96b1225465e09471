"""Certificates for host names: which one is shown, and what happens when the files change."""

from __future__ import annotations

import datetime
import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from common.errors import KeyFileError, SettingError
from relay_server.http.certificates import Certificates, Pair


def make(folder: Path, name: str, *names: str) -> Pair:
    """Write a certificate for ``names`` and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime(2026, 1, 1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        .sign(key, hashes.SHA256())
    )
    crt, pem = folder / f"{name}.crt", folder / f"{name}.key"
    crt.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem.unlink(missing_ok=True)
    pem.touch(mode=0o600)
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(crt), str(pem)


def shown(context: ssl.SSLContext, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> str:
    """The first name in the certificate that a handshake in memory shows."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.maximum_version = maximum
    client.set_alpn_protocols(["h2", "http/1.1"])
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(back, there)
    other = context.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for each in (one, other):
            try:
                each.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert one.selected_alpn_protocol() == "http/1.1"
    der = one.getpeercert(binary_form=True)
    assert der is not None
    certificate = x509.load_der_x509_certificate(der)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return names.value.get_values_for_type(x509.DNSName)[0]


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_name_chooses(tmp_path: Path, maximum: ssl.TLSVersion) -> None:
    pairs = [make(tmp_path, "1", "first.example"), make(tmp_path, "2", "*.b.example", "b.example")]
    certificates = Certificates(pairs)
    wanted = {
        "first.example": "first.example",
        "b.example": "*.b.example",
        "x.b.example": "*.b.example",
        "x.y.b.example": "first.example",  # a wildcard is one label
        "other.example": "first.example",
        None: "first.example",
    }
    assert {sni: shown(certificates.context(sni), maximum) for sni in wanted} == wanted


def test_new_files_are_used_and_broken_ones_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair = make(tmp_path, "1", "old.example")
    certificates = Certificates([pair])
    certificates.refresh()
    assert shown(certificates.context(None)) == "old.example"
    make(tmp_path, "1", "new.example")
    certificates.refresh()
    assert shown(certificates.context("new.example")) == "new.example"
    Path(pair[0]).write_text("broken")
    certificates.refresh()
    certificates.refresh()
    assert shown(certificates.context("new.example")) == "new.example"
    errors = [each for each in caplog.records if each.levelname == "ERROR"]
    assert len(errors) == 1
    os.unlink(pair[0])
    certificates.refresh()
    assert shown(certificates.context(None)) == "new.example"


def test_a_broken_file_keeps_its_names_when_another_changes(tmp_path: Path) -> None:
    pairs = [make(tmp_path, "1", "a.example"), make(tmp_path, "2", "b.example")]
    certificates = Certificates(pairs)
    Path(pairs[1][0]).write_text("broken")
    certificates.refresh()
    make(tmp_path, "1", "c.example")
    certificates.refresh()
    assert shown(certificates.context("b.example")) == "b.example"


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    pair = make(tmp_path, "1", "a.example")
    os.chmod(pair[1], 0o644)
    with pytest.raises(KeyFileError, match="others can read"):
        Certificates([pair])


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    one, other = make(tmp_path, "1", "a.example"), make(tmp_path, "2", "b.example")
    with pytest.raises(KeyFileError, match=r"1\.crt"):
        Certificates([(one[0], other[1])])


def test_certificates_and_keys_come_in_pairs() -> None:
    assert Certificates.of([], []) is None
    with pytest.raises(SettingError):
        Certificates.of(["a.crt"], [])


def test_a_certificate_that_names_nothing_readable_serves_where_no_other_does(
    tmp_path: Path,
) -> None:
    """OpenSSL takes a certificate of any version."""
    crt, key = make(tmp_path, "a", "a.example")
    der = ssl.PEM_cert_to_DER_cert(Path(crt).read_text())
    odd = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x2a", 1)
    assert odd != der
    Path(crt).write_text(ssl.DER_cert_to_PEM_cert(odd))
    other = make(tmp_path, "b", "b.example")
    served = Certificates([(crt, key), other])
    assert served.context("b.example") is not served.context("a.example")
    assert served.context("a.example") is served.context(None)
