"""ed25519 keys (RFC 8032) and the formats people have them in; bytes and text in, objects out.

=============  =========================================  =======================================
               private (:func:`parse_identity`)           public (:func:`parse_public_key`)
=============  =========================================  =======================================
OpenSSH        ``-----BEGIN OPENSSH PRIVATE KEY-----``    ``ssh-ed25519 AAAA… comment``
PKCS #8        ``-----BEGIN PRIVATE KEY-----``            (none)
original tool  64 bytes: seed, public key                 32 bytes
=============  =========================================  =======================================

Invariants:

* An :class:`Identity` never shows its secret: not in ``repr``, not in an error.
* A comment is one line of printable text, so a key never spoils a log or adds a line to a file.
* A public key that a *file* names is a point for which forging is hard: see
  :meth:`PublicKey.from_raw`. The constructor takes any 32 bytes, for what a peer showed has to
  have a fingerprint before it is refused.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.errors import KeyFileError
from common.openssh_format import (
    KEY_BYTES,
    MAKE_ONE,
    PRIVATE_BEGIN,
    decode_private,
    decode_public,
    encode_blob,
    encode_private,
    encode_public,
    shown,
)

_RAW_IDENTITY_BYTES: Final = 2 * KEY_BYTES
_PRINTED: Final = re.compile(rb"[\t\n\r\x20-\x7e]*")  # 32 bytes of it are text, not a raw key
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

_PRIME: Final = 2**255 - 19
_ORDER_8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_WEAK_Y: Final = frozenset({0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8})
"""The y of all eight points whose order divides 8: of 4, 1, 2 and (twice) 8."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key; equal to another when the 32 bytes are.

    Args:
        raw: 32 bytes, as RFC 8032 section 5.1.2 encodes a point.
        comment: one line of printable text; says whose key it is, and means nothing.

    Raises:
        KeyFileError: another length, or a comment with line ends or control characters.
    """

    raw: bytes
    comment: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise KeyFileError(
                f"an ed25519 public key has {KEY_BYTES} bytes, not {len(self.raw)}; {MAKE_ONE}"
            )
        if not self.comment.isprintable():
            raise KeyFileError(
                f"a key's comment is one line of printable text, not {shown(self.comment)}; "
                "leave out line ends, tabs and control characters"
            )

    @property
    def fingerprint(self) -> str:
        """``SHA256:…`` in unpadded base64, exactly as ``ssh-keygen -l`` prints it."""
        digest = hashlib.sha256(encode_blob(self.raw)).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"

    def openssh(self) -> str:
        """Return ``ssh-ed25519 AAAA… comment``, a line for ``authorized_keys`` without its end."""
        return encode_public(self.raw, self.comment)

    @classmethod
    def from_openssh(cls, text: str) -> Self:
        """Return the key of one line, without options in front of it.

        Raises:
            KeyFileError: a key of another type, damaged, or weak (see :meth:`from_raw`).
        """
        raw, comment = decode_public(text)
        return cls.from_raw(raw, comment)

    @classmethod
    def from_raw(cls, raw: bytes, comment: str = "") -> Self:
        """Return the key of 32 bytes from a file; what does not print is dropped from the comment.

        Raises:
            KeyFileError: another length; or a weak key. Weak is a point of small order, under
                which anybody can sign without a secret, and a y that is not below the field's
                prime, which RFC 8032 section 5.1.3 wants refused.
        """
        key = cls(raw, _one_line(comment))
        y = int.from_bytes(raw, "little") & (2**255 - 1)
        if y in _WEAK_Y or y >= _PRIME:
            raise KeyFileError(
                f"not a sound ed25519 key: {key.fingerprint} is a point that anybody could sign "
                f"for; trust it nowhere, {MAKE_ONE}"
            )
        return key


@dataclass(frozen=True, slots=True)
class Identity:
    """A key pair; names a machine or a person. Made by :meth:`from_seed` or :func:`parse_identity`.

    Equal to another when the public keys are. Its ``repr`` shows the public key alone.
    """

    public: PublicKey
    _seed: bytes = field(repr=False, compare=False)

    @classmethod
    def from_seed(cls, seed: bytes, comment: str = "") -> Self:
        """Return the identity of a seed of 32 secret bytes (RFC 8032 section 5.1.5).

        Raises:
            KeyFileError: another length, or a comment that :class:`PublicKey` refuses.
        """
        if len(seed) != KEY_BYTES:
            raise KeyFileError(
                f"an ed25519 seed has {KEY_BYTES} bytes, not {len(seed)}; {MAKE_ONE}"
            )
        key = Ed25519PrivateKey.from_private_bytes(seed)
        return cls(PublicKey(key.public_key().public_bytes_raw(), comment), seed)

    def private_key(self) -> Ed25519PrivateKey:
        """Return the private key for ``cryptography``."""
        return Ed25519PrivateKey.from_private_bytes(self._seed)

    def to_openssh(self) -> bytes:
        """Return an unencrypted OpenSSH private key file; the same for equal keys and comments."""
        return encode_private(self._seed, self.public.raw, self.public.comment)


def parse_identity(data: bytes, path: str = "FILE") -> Identity:
    """Return the identity in the bytes of a private key file.

    Args:
        data: one of the formats above; line ends may be LF or CRLF.
        path: the file as a shell needs it written, for the advice in a message.

    Raises:
        KeyFileError: another format or type of key, a damaged one, or one with a passphrase.
    """
    text = data.removeprefix(_BYTE_ORDER_MARK).strip()
    if text.startswith(PRIVATE_BEGIN):
        seed, raw, comment = decode_private(text, path)
        return _matched(seed, raw, _one_line(comment))
    if text.startswith(b"-----BEGIN PRIVATE KEY-----"):
        return _from_pkcs8(text)
    if b"ENCRYPTED" in text[:200] and text.startswith(b"-----BEGIN "):
        raise KeyFileError(
            "the private key is protected by a passphrase, which a program that starts by itself "
            f"cannot type; take it off with: openssl pkey -in {path} -out NEW"
        )
    binary = not _PRINTED.fullmatch(data)
    if binary and len(data) == _RAW_IDENTITY_BYTES:
        return _matched(data[:KEY_BYTES], data[KEY_BYTES:], "")
    if text.startswith(b"PuTTY-User-Key-File"):
        raise KeyFileError(f"a PuTTY key; convert it with: puttygen {path} -O private-openssh-new")
    if text.startswith(b"ssh-") or (binary and len(data) == KEY_BYTES):
        raise KeyFileError("this is a public key; name the private key's file (without .pub)")
    raise KeyFileError(
        "not an ed25519 private key in a format known here (OpenSSH, PKCS #8, or the original "
        f"tool's 64 bytes); {MAKE_ONE}"
    )


def parse_public_key(data: bytes) -> PublicKey:
    """Return the key in the bytes of a public key file.

    Args:
        data: one OpenSSH line, with or without blank lines and ``#`` comments around it; or the
            original tool's 32 bytes.

    Raises:
        KeyFileError: anything else.
    """
    if len(data) == KEY_BYTES and not _PRINTED.fullmatch(data):
        return PublicKey.from_raw(data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        what = "64 bytes may be a raw private key" if len(data) == 64 else "not text"
        raise KeyFileError(
            f"{len(data)} bytes that are not an OpenSSH public key ({what}); name a file with "
            "one line: ssh-ed25519 AAAA…"
        ) from None
    lines = [line for line in map(str.strip, text.split("\n")) if line and line[0] != "#"]
    if len(lines) > 1 and lines[0].startswith("ssh-"):
        raise KeyFileError(f"{len(lines)} keys where one is expected; keep one line in the file")
    return PublicKey.from_openssh(lines[0] if lines else "")


def _matched(seed: bytes, raw: bytes, comment: str) -> Identity:
    identity = Identity.from_seed(seed, comment)
    if identity.public.raw != raw:
        raise KeyFileError(
            "the private key is damaged: its public half does not belong to its secret half; "
            f"copy it again, or {MAKE_ONE}"
        )
    return identity


def _from_pkcs8(text: bytes) -> Identity:
    """Parse PKCS #8 (RFC 8410 section 7, RFC 5958)."""
    # Imported here: it brings every kind of key, and few people have such a file.
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(text, None)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        raise KeyFileError(
            f"the private key is damaged: its PKCS #8 cannot be read; copy it again, or {MAKE_ONE}"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        kind = type(key).__name__.removesuffix("PrivateKey").strip("_")
        raise KeyFileError(f"not an ed25519 key: {kind!r}; {MAKE_ONE}")
    return Identity.from_seed(key.private_bytes_raw())


def _one_line(comment: str) -> str:
    printable = "".join(char if char.isprintable() else " " for char in comment)
    return " ".join(printable.split())
