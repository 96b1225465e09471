from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from common.certificate_files import date_trouble, load_pair
from common.errors import KeyFileError
from gen_cert.names import parse_names
from gen_cert.x509 import make_certificate

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    made = make_certificate(parse_names(["localhost"], []), 30, NOW)
    certificate, key = tmp_path / "a.crt", tmp_path / "a.key"
    certificate.write_bytes(made.certificate)
    key.write_bytes(made.key)
    return certificate, key


def words(certificate: Path, key: Path) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(KeyFileError) as error:
        load_pair(context, str(certificate), str(key))
    start = f"cannot use {certificate} with {key}: "
    assert str(error.value).startswith(start)
    return str(error.value).removeprefix(start)


def test_a_pair_is_loaded(pair: tuple[Path, Path]) -> None:
    load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), *map(str, pair))


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("what", ["nothing", "noise", "half"])
def test_the_file_at_fault_is_named(pair: tuple[Path, Path], number: int, what: str) -> None:
    path = pair[number]
    whole = path.read_bytes()
    garbage = {"nothing": b"", "noise": b"\0\xff" * 500, "half": whole[: len(whole) // 2]}
    path.write_bytes(garbage[what])
    kind = ("certificate", "private key")[number]
    assert words(*pair) == f"{path} holds no {kind} in PEM form"


def test_files_that_are_missing_or_changed_places(pair: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = pair
    missing = tmp_path / "no"
    assert words(missing, key) == f"{missing}: No such file or directory"
    assert words(certificate, missing) == f"{missing}: No such file or directory"
    assert words(key, certificate) == f"{key} holds no certificate in PEM form"


def test_a_key_of_another_certificate(pair: tuple[Path, Path]) -> None:
    certificate, key = pair
    key.write_bytes(make_certificate(parse_names(["localhost"], []), 30, NOW).key)
    assert words(certificate, key) == "key values mismatch"


def test_nobody_is_asked_for_the_password_of_an_encrypted_key(pair: tuple[Path, Path]) -> None:
    certificate, key = pair
    private = load_pem_private_key(key.read_bytes(), None)
    secret = BestAvailableEncryption(b"secret")
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    assert words(certificate, key) == (
        f"{key} is encrypted; a program that starts by itself cannot ask for a password"
    )


@pytest.mark.parametrize(
    ("days", "trouble"),
    [
        (0, ""),
        (29, ""),
        (31, "it expired at 2026-03-31 12:30 UTC"),
        (-1, "it is not valid before 2026-03-01 11:30 UTC"),
    ],
)
def test_dates_that_clients_refuse(pair: tuple[Path, Path], days: int, trouble: str) -> None:
    assert date_trouble(str(pair[0]), NOW + timedelta(days=days)) == trouble


def test_what_cannot_be_read_has_no_dates(tmp_path: Path) -> None:
    assert date_trouble(str(tmp_path / "no"), NOW) == ""
