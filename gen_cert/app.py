"""The two things gen-cert does: make, write, and report."""

from __future__ import annotations

import datetime
import socket
from pathlib import Path

from common.errors import SettingError
from common.keys import Identity
from common.new_files import PRIVATE_MODE, PUBLIC_MODE, NewFile, check_free, write_new
from gen_cert import ed25519
from gen_cert.report import Report
from gen_cert.settings import Ed25519Settings, X509Settings


def make_x509(settings: X509Settings, *, force: bool) -> Report:
    """Make and write the relay's certificate and its key: both, or neither.

    Raises:
        SettingError: a name or an address is none.
        KeyFileError: a file is there already and ``force`` is not set, or cannot be written.
    """
    # Imported here, as identities do not need X.509.
    from gen_cert.names import default_names, parse_names
    from gen_cert.x509 import make_certificate

    certificate_path = Path(settings.output, "server.crt")
    key_path = Path(settings.output, "server.key")
    check_free([key_path, certificate_path], force=force)
    if settings.dns or settings.ip:
        names, hint = parse_names(settings.dns, settings.ip), ""
    else:
        names = default_names(socket.gethostname())
        hint = " (the default; --dns and --ip set others)"
    made = make_certificate(names, settings.days, datetime.datetime.now(datetime.UTC))
    write_new(
        [
            NewFile(key_path, made.key, PRIVATE_MODE),
            NewFile(certificate_path, made.certificate, PUBLIC_MODE),
        ],
        force=force,
    )
    return Report(
        headline=f"Wrote {certificate_path} and {key_path}",
        details={
            "names": f"{names}{hint}",
            "SHA-256": made.fingerprint,
            "valid until": f"{made.not_after:%Y-%m-%d %H:%M:%S} UTC",
        },
        next_step=f"Copy {certificate_path.name} to the clients; {key_path.name} stays on the "
        "relay.",
        machine={
            "certificate": str(certificate_path),
            "key": str(key_path),
            "dns": names.dns,
            "ip": [str(ip) for ip in names.ips],
            "sha256": made.fingerprint,
            "not_after": made.not_after,
        },
    )


def make_ed25519(settings: Ed25519Settings, *, passphrase: bool, force: bool) -> Report:
    """Make and write an identity and its public key: both, or neither.

    Args:
        settings: where, and whose key it is.
        passphrase: ask for a passphrase and derive the key from it.
        force: replace files that are there already.

    Raises:
        SettingError: the comment is more than a line of printable text.
        UsageError: the passphrase cannot be read, or is too weak.
        KeyFileError: a file is there already and ``force`` is not set, or cannot be written.
        EOFError, KeyboardInterrupt: the user gave up at the prompt.
    """
    private_path, public_path = Path(settings.output, "auth"), Path(settings.output, "auth.pub")
    # Before a passphrase is asked for, and a second is spent on it.
    check_free([private_path, public_path], force=force)
    comment = settings.comment
    if not comment.isprintable():
        raise SettingError(
            f"--comment: {comment[:80]!r} is not one line of printable text; leave out line ends, "
            "tabs and control characters"
        )
    seed = _seed_from_passphrase() if passphrase else ed25519.random_seed()
    identity = Identity.from_seed(seed, comment)
    write_new(
        [
            NewFile(private_path, identity.to_openssh(), PRIVATE_MODE),
            NewFile(public_path, ed25519.public_file(identity), PUBLIC_MODE),
        ],
        force=force,
    )
    return Report(
        headline=f"Wrote {private_path} and {public_path}",
        line=ed25519.listing(identity.public),
        next_step=f"Keep {private_path.name} secret; give {public_path.name} to those who shall "
        "trust it.",
        machine={
            "private_key": str(private_path),
            "public_key": str(public_path),
            "fingerprint": identity.public.fingerprint,
            "comment": comment,
        },
    )


def _seed_from_passphrase() -> bytes:
    # Imported here: libsodium and the word lists take memory that a random key does not need.
    from gen_cert.passphrase import check_strength, derive_seed, normalise
    from gen_cert.prompt import read_passphrase

    passphrase = normalise(read_passphrase())
    check_strength(passphrase)
    return derive_seed(passphrase)
