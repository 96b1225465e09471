"""Certificates for host names whose TLS ends at the relay; read again when their files change."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from common.certificate_files import load_pair
from common.errors import SettingError, UsageError
from common.key_files import check_private
from common.logs import event

log = logging.getLogger(__name__)

Pair = tuple[str, str]
"""The files of a certificate chain and of its private key, in PEM."""


class Certificates:
    """The contexts for TLS, by host name.

    Args:
        pairs: at least one; the first serves names that are in none.

    Raises:
        KeyFileError: a pair cannot be used.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = tuple(pairs)
        self._stamps = [_stamp(pair) for pair in self._pairs]
        self._contexts = [_context(*pair) for pair in self._pairs]
        self._names = [_names_in(path) for path, _ in self._pairs]  # of the contexts in use
        self._by_name = self._index()

    @classmethod
    def of(cls, certs: Sequence[str], keys: Sequence[str]) -> Certificates | None:
        """Return what ``--https-cert`` and ``--https-key`` ask for, if anything.

        Raises:
            SettingError: they do not belong together.
            KeyFileError: a pair cannot be used.
        """
        if len(certs) != len(keys):
            raise SettingError(
                f"--https-cert names {len(certs)} files and --https-key {len(keys)}; give one key"
                " for each certificate, in the same order"
            )
        return cls(list(zip(certs, keys, strict=True))) if certs else None

    def context(self, sni: str | None) -> ssl.SSLContext:
        """Return the context for a host name: exact, by wildcard, or the first."""
        if sni is not None:
            for name in (sni, f"*.{sni.partition('.')[2]}"):
                if name in self._by_name:
                    return self._contexts[self._by_name[name]]
        return self._contexts[0]

    def refresh(self) -> None:
        """Look whether files have changed; those that cannot be used leave the old ones in use."""
        for number, pair in enumerate(self._pairs):
            stamp = _stamp(pair)
            if stamp == self._stamps[number]:
                continue
            self._stamps[number] = stamp
            try:
                self._contexts[number] = _context(*pair)
            except UsageError as error:
                event(
                    log, logging.ERROR, "certificate not changed", file=pair[0], reason=str(error)
                )
                continue
            self._names[number] = _names_in(pair[0])
            self._by_name = self._index()
            event(log, logging.INFO, "certificate changed", file=pair[0])

    def _index(self) -> dict[str, int]:
        """Return which pair serves a name; of several the first."""
        by_name: dict[str, int] = {}
        for number, names in enumerate(self._names):
            for name in names:
                by_name.setdefault(name.lower(), number)
        return by_name


def _context(certificate: str, key: str) -> ssl.SSLContext:
    check_private(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.num_tickets = 0  # see common.tls
    context.options |= ssl.OP_NO_RENEGOTIATION  # handshakes without end, on one connection
    load_pair(context, certificate, key)
    return context


def _names_in(path: str) -> list[str]:
    try:
        certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (
        OSError,
        ValueError,
        x509.ExtensionNotFound,
        x509.InvalidVersion,
        x509.DuplicateExtension,
    ):
        return []  # OpenSSL has read it; without names it serves where no other does
    return extension.value.get_values_for_type(x509.DNSName)


def _stamp(pair: Pair) -> list[tuple[int, int, int] | None]:
    """Return what changes when a file does."""
    stamps: list[tuple[int, int, int] | None] = []
    for path in pair:
        try:
            stat = Path(path).stat()
            stamps.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        except OSError:
            stamps.append(None)
    return stamps
