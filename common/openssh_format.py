"""OpenSSH's two formats for ed25519 keys, as bytes and text.

* Public (RFC 4253 section 6.6, RFC 8709 section 4)::

      ssh-ed25519 BASE64(blob) comment        blob = string "ssh-ed25519" || string key[32]

* Private (OpenSSH's ``PROTOCOL.key``), in base64 between lines that say BEGIN and END::

      "openssh-key-v1\\0"  string cipher  string kdf  string kdf_options  uint32 keys=1
      string blob  string private
      private = uint32 check  uint32 check  string "ssh-ed25519"  string key[32]
                string seed[32]||key[32]  string comment  padding 1, 2, 3 … to a multiple of 8

A ``string`` is a uint32 length and as many bytes (RFC 4251 section 5). Written by hand because
``cryptography`` neither reads nor writes the comment. Whether seed and key belong together is for
:mod:`common.keys` to check.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import struct
import textwrap

from common.errors import KeyFileError

KEY_BYTES = 32
"""Length of a public key and of a seed (RFC 8032 section 5.1.5)."""

KEY_TYPE = "ssh-ed25519"
PRIVATE_BEGIN = b"-----BEGIN OPENSSH PRIVATE KEY-----"

MAKE_ONE = "make one with: gen-cert ed25519"

_PRIVATE_END = b"-----END OPENSSH PRIVATE KEY-----"
_MAGIC = b"openssh-key-v1\0"
_BLOCK_BYTES = 8  # of the cipher "none"
_LINE_CHARS = 70  # as ssh-keygen breaks its lines


def encode_blob(raw: bytes) -> bytes:
    """Return the public key ``raw`` (32 bytes) in SSH's wire form (51 bytes)."""
    return _string(KEY_TYPE.encode()) + _string(raw)


def encode_public(raw: bytes, comment: str) -> str:
    """Return a line for ``authorized_keys``, without a line end."""
    line = f"{KEY_TYPE} {base64.b64encode(encode_blob(raw)).decode()}"
    return f"{line} {comment}" if comment else line


def decode_public(text: str) -> tuple[bytes, str]:
    """Return the key (32 bytes) and the comment of one line; the comment is as it stands there.

    Raises:
        KeyFileError: anything but an ed25519 public key.
    """
    key_type, encoded, comment = (*text.split(None, 2), "", "", "")[:3]
    if key_type != KEY_TYPE:
        if "PRIVATE KEY-----" in text:
            raise KeyFileError("this is a private key; name the public key's file (.pub)")
        raise KeyFileError(f"not an ed25519 key: {shown(text)}; {MAKE_ONE}")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except ValueError:  # binascii.Error is one; so is what text outside ASCII raises
        raise KeyFileError(_damaged(text)) from None
    if len(blob) != len(encode_blob(bytes(KEY_BYTES))) or encode_blob(blob[-KEY_BYTES:]) != blob:
        raise KeyFileError(_damaged(text))
    return blob[-KEY_BYTES:], comment


def encode_private(seed: bytes, raw: bytes, comment: str) -> bytes:
    """Return an unencrypted private key file (PEM-like text with a line end).

    Args:
        seed: 32 bytes.
        raw: the public key of ``seed``, 32 bytes.
        comment: shown by ``ssh-keygen -l``.

    The check number guards nothing without encryption; it is taken from the public key, so that
    equal keys make equal files.
    """
    private = (
        raw[:4] * 2
        + _string(KEY_TYPE.encode())
        + _string(raw)
        + _string(seed + raw)
        + _string(comment.encode())
    )
    private += bytes(range(1, 1 + -len(private) % _BLOCK_BYTES))
    body = (
        _MAGIC
        + _string(b"none") * 2
        + _string(b"")
        + struct.pack(">I", 1)
        + _string(encode_blob(raw))
        + _string(private)
    )
    lines = textwrap.wrap(base64.b64encode(body).decode(), _LINE_CHARS)
    return b"\n".join([PRIVATE_BEGIN, "\n".join(lines).encode(), _PRIVATE_END, b""])


def decode_private(data: bytes, path: str) -> tuple[bytes, bytes, str]:
    """Return the seed (32 bytes), the public key (32 bytes) and the comment of a private key file.

    Args:
        data: begins with ``PRIVATE_BEGIN``.
        path: the file as a shell needs it written, for the advice in a message.

    Raises:
        KeyFileError: damaged, protected by a passphrase, or not one ed25519 key.
    """
    body, end, rest = data.strip()[len(PRIVATE_BEGIN) :].partition(_PRIVATE_END)
    if not end or rest:
        raise _damage("it does not end with one END line")
    try:
        binary = binascii.a2b_base64(b"".join(body.split()), strict_mode=True)
    except binascii.Error as error:
        raise _damage(f"its base64 cannot be read ({error})") from None
    if not binary.startswith(_MAGIC):
        raise _damage("it does not hold an openssh-key-v1")
    outer = _Reader(binary[len(_MAGIC) :])
    cipher, _kdf, _kdf_options = outer.string(), outer.string(), outer.string()
    if cipher != b"none":
        raise KeyFileError(
            "the private key is protected by a passphrase, which a program that starts by itself "
            f"cannot type; take it off (a copy, if need be) with: ssh-keygen -p -N '' -f {path}"
        )
    if (count := outer.uint32()) != 1:
        raise KeyFileError(f"the file holds {count} keys, not one; {MAKE_ONE}")
    blob, inner = outer.string(), _Reader(outer.string())
    outer.end()
    check_numbers = inner.uint32(), inner.uint32()
    if (key_type := inner.string()) != KEY_TYPE.encode():
        raise KeyFileError(f"not an ed25519 key: {shown(_text(key_type))}; {MAKE_ONE}")
    raw, pair, comment = inner.string(), inner.string(), inner.string()
    if check_numbers[0] != check_numbers[1]:
        raise _damage("its check numbers differ")
    if len(pair) != 2 * KEY_BYTES or pair[KEY_BYTES:] != raw or encode_blob(raw) != blob:
        raise _damage("its private and public halves differ")
    if any(
        byte != expected & 0xFF
        for byte, expected in zip(inner.rest(), itertools.count(1), strict=False)
    ):
        raise _damage("its padding is wrong")
    return pair[:KEY_BYTES], raw, _text(comment)


def shown(text: str) -> str:
    """Return the beginning of ``text`` for a message, quoted and escaped: ``'ssh-rsa AAAA…'``."""
    text = text.strip()
    return repr(text if len(text) <= 32 else f"{text[:32]}…")


class _Reader:
    """Takes the fields of RFC 4251 section 5 off a byte string."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise _damage("it is cut short")
        self._at += size
        return taken

    def uint32(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def string(self) -> bytes:
        return self._take(self.uint32())

    def rest(self) -> bytes:
        return self._data[self._at :]

    def end(self) -> None:
        if self.rest():
            raise _damage("there is more after its end")


def _string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _damage(how: str) -> KeyFileError:
    return KeyFileError(f"the private key is damaged: {how}; copy it again, or {MAKE_ONE}")


def _damaged(text: str) -> str:
    return f"a damaged ed25519 key: {shown(text)}; copy the whole line again, or {MAKE_ONE}"
