"""Identities: who they are by default, and how ``ssh-keygen -l`` would show them."""

from __future__ import annotations

import getpass
import secrets
import socket

from common.keys import Identity, PublicKey

_SEED_BYTES = 32  # RFC 8032 section 5.1.5
_KEY_BITS = 256


def random_seed() -> bytes:
    """Return 32 bytes from the system's random source."""
    return secrets.token_bytes(_SEED_BYTES)


def default_comment() -> str:
    """Return ``user@host`` as ``ssh-keygen`` does, or nothing where that cannot be found out."""
    try:
        comment = f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError, ImportError):  # a user id without a name, as in containers
        return ""
    return comment if comment.isprintable() else ""


def public_file(identity: Identity) -> bytes:
    """Return the contents of the ``.pub`` file."""
    return f"{identity.public.openssh()}\n".encode()


def listing(key: PublicKey) -> str:
    """Return the line of ``ssh-keygen -l``: ``256 SHA256:… comment (ED25519)``."""
    return f"{_KEY_BITS} {key.fingerprint} {key.comment or 'no comment'} (ED25519)"
