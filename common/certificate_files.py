"""A certificate and its key, as files: into a TLS context, or the reason why they do not fit."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from common.errors import KeyFileError


def load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Let ``context`` show the certificate of one PEM file, with the key of another.

    Raises:
        KeyFileError: they cannot be used; the message says which file is at fault, and why.
    """
    try:
        # With no password OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise KeyFileError(
            f"cannot use {certificate} with {key}: {_fault(certificate, key) or _words(error)}"
        ) from None


def date_trouble(certificate: str, now: datetime.datetime) -> str:
    """Return why clients refuse the first certificate of a PEM file at ``now``, or nothing."""
    try:
        found = x509.load_pem_x509_certificate(Path(certificate).read_bytes())
    except (OSError, ValueError):
        return ""  # load_pair has told, or OpenSSL can read what we cannot
    if now > found.not_valid_after_utc:
        return f"it expired at {found.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if now < found.not_valid_before_utc:
        return f"it is not valid before {found.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return ""


def _fault(certificate: str, key: str) -> str:
    """Return what is wrong with one of the files by itself, or nothing."""
    for path in (certificate, key):
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            return f"{path}: {error.strerror}"
        try:
            if path == certificate:
                x509.load_pem_x509_certificates(data)
            else:
                load_pem_private_key(data, None)
        except TypeError:
            return f"{path} is encrypted; a program that starts by itself cannot ask for a password"
        except (ValueError, UnsupportedAlgorithm):
            kind = "certificate" if path == certificate else "private key"
            return f"{path} holds no {kind} in PEM form"
    return ""


def _words(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return str(reason).replace("_", " ").lower()
