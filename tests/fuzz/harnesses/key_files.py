"""Files with one key, private or public."""

from __future__ import annotations

import base64
from typing import Final

from common.errors import KeyFileError
from common.keys import Identity, parse_identity, parse_public_key
from common.openssh_format import PRIVATE_BEGIN, encode_blob
from tests.fuzz.outcome import outcome

SEED: Final = bytes(range(32))
IDENTITY: Final = Identity.from_seed(SEED, "ann@home")
PRIVATE: Final = IDENTITY.to_openssh()
END: Final = b"\n-----END OPENSSH PRIVATE KEY-----\n"
# The first byte: 0 a private key's file, 1 a public key's, 2 the inside of a private key's.
INSIDE: Final = base64.b64decode(b"".join(PRIVATE.split(b"\n")[1:-2]))
SEEDS: Final = (
    b"\x00" + PRIVATE,
    b"\x00" + PRIVATE.replace(b"\n", b"\r\n"),
    b"\x00" + SEED + IDENTITY.public.raw,
    b"\x00-----BEGIN PRIVATE KEY-----\n"
    b"MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n"
    b"-----END PRIVATE KEY-----\n",
    b"\x01" + IDENTITY.public.openssh().encode() + b"\n",
    b"\x01# mine\n\n" + IDENTITY.public.openssh().encode(),
    b"\x01" + IDENTITY.public.raw,
    b"\x01ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAQQ",
    b"\x02" + INSIDE,
    b"\x02" + INSIDE.replace(b"none", b"aes2", 1),
)
WORDS: Final = (
    *(PRIVATE_BEGIN, END, b"openssh-key-v1\0", b"\0\0\0\x04none", b"\0\0\0\0", b"\0\0\0\x01"),
    *(b"\0\0\0\x0bssh-ed25519", b"ssh-ed25519 ", encode_blob(IDENTITY.public.raw), b"\xff" * 4),
    *(b"-----BEGIN PRIVATE KEY-----", b"ENCRYPTED", b"PuTTY-User-Key-File", b"\xef\xbb\xbf"),
)


def check_public(content: bytes) -> None:
    key = parse_public_key(content)
    again = parse_public_key(key.openssh().encode())
    assert (again, again.comment) == (key, key.comment)


def check_private(content: bytes) -> None:
    identity = parse_identity(content, "FILE")
    again = parse_identity(identity.to_openssh(), "FILE")
    assert (again, again.public.comment) == (identity, identity.public.comment)
    assert identity.public.comment.isprintable()
    assert identity.private_key().public_key().public_bytes_raw() == identity.public.raw


def check(data: bytes) -> None:
    if not data:
        return
    kind, content = data[0] % 3, data[1:]
    if kind == 2:
        content = PRIVATE_BEGIN + b"\n" + base64.b64encode(content) + END
    error = outcome(KeyFileError, lambda: (check_public if kind == 1 else check_private)(content))
    assert error is None or str(error)
