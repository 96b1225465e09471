"""Trusted keys: which keys may come in, and what each of them may do.

The file has the syntax of OpenSSH's ``authorized_keys`` (sshd(8)), one key a line::

    [options] ssh-ed25519 AAAA… [comment]

Options are described in :mod:`common.key_options`. Blank lines and lines that begin with ``#``
are ignored. Invariants:

* Nothing is skipped: a line that does not parse, an unknown option, a key of another type, or a
  key that stands there twice with different options is an error that names file and line.
* A file without any key is an error: it would refuse everybody in silence.
* What cannot be judged is refused: ``from=`` where nobody sees the address refuses the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from common.addresses import IPAddress, parse_ip
from common.errors import AddressError, KeyFileError, TrustedKeysError, UsageError
from common.key_options import KeyOptions, parse_options, split_options
from common.keys import PublicKey
from common.openssh_format import KEY_BYTES, MAKE_ONE, shown
from common.printable import printable
from common.refusals import Refusal, listing

_RAW_PRIVATE_BYTES = 2 * KEY_BYTES  # the original tool's: the seed, then the public key

_KEY_TYPE = re.compile(r"(ssh|ecdsa|sk)-[A-Za-z0-9@.-]+")
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """One key and what it may do.

    Args:
        key: the public key.
        options: what it may do.
        path: the file, as the user named it.
        line: the line number, from 1.
    """

    key: PublicKey
    options: KeyOptions
    path: str
    line: int

    @property
    def where(self) -> str:
        """The place to look at or change: ``file:line``."""
        return f"{self.path}:{self.line}"

    def check_login(self, role: str, group: str, address: str | None, now: float) -> Refusal | None:
        """Return why the key may not log in, or ``None`` if it may.

        Args:
            role: ``"entry-point"`` or ``"reverse-proxy"``.
            group: the group it wants to join.
            address: where it comes from, as a socket gives it; ``None`` where that cannot be seen.
            now: seconds since the epoch.

        Raises:
            AddressError: ``address`` is no address.
        """
        options = self.options
        if options.expires_at is not None and now >= options.expires_at:
            moment = datetime.fromtimestamp(options.expires_at, UTC)
            return self._refusal(
                "expired-key",
                f"expired at {moment:%Y-%m-%d %H:%M:%S} UTC; set a later expiry-time=, or make a"
                " new key",
            )
        if options.roles and role not in options.roles:
            return self._refusal(
                "wrong-role",
                f"may be {' or '.join(options.roles)}, not {role}; use another key, or change"
                " role=",
            )
        if not options.admits_group(group):
            return self._refusal(
                "wrong-group",
                f"may not join group {group!r}, only {listing(options.groups)}; use another"
                " group, or change group=",
            )
        if options.source is None:
            return None
        if address is None:
            return self._refusal(
                "from-mismatch",
                "has from=, which cannot be checked here: only the relay sees the address; put"
                " from= into the relay's trusted keys",
            )
        if not options.source.admits(parse_ip(address)):
            patterns = listing(options.source.text.split(","))
            return self._refusal(
                "from-mismatch",
                f"may not come from {parse_ip(address)}, only from {patterns}; connect from there,"
                " or change from=",
            )
        return None

    def check_open(self, host: str, ip: str, port: int) -> Refusal | None:
        """Return why the key may not open a destination, or ``None`` if it may.

        Args:
            host: the destination as it was asked for: a name or an address.
            ip: the address that will be dialled.
            port: the port that will be dialled.

        Raises:
            AddressError: ``ip`` is no address.
        """
        address = parse_ip(ip)
        opens = self.options.opens
        if not opens or any(each.matches(host, address, port) for each in opens):
            return None
        resolved = "" if host == str(address) else f" ({address})"
        asked = f"{printable(host)}{resolved} port {port}"
        return self._refusal(
            "not-permitted",
            f"may not open {asked}, only {listing(opens)}; ask for one of these, or"
            " add permitopen=",
        )

    def check_listen(self, host: str, port: int) -> Refusal | None:
        """Return why the key may not have a public port, or ``None`` if it may.

        Args:
            host: the address or name that public ports are bound to; empty or ``*`` for all
                addresses, which are covered by ``*``, ``0.0.0.0`` and ``::``.
            port: the port, TCP or UDP; 0, which only ``*`` covers, asks for any free one.
        """
        listens = self.options.listens
        bound = ("0.0.0.0", "::") if host in ("", "*") else (host,)  # noqa: S104 - compared only
        if not listens or any(
            each.matches(text, _address(text), port) for each in listens for text in bound
        ):
            return None
        asked = f"port {port}" if port else "any free port"
        return self._refusal(
            "not-permitted",
            f"may not have {asked} made public, only {listing(listens)}; ask for one of these, or"
            " add permitlisten=",
        )

    def check_host(self, name: str) -> Refusal | None:
        """Return why the key may not have a public host name, or ``None`` if it may.

        Args:
            name: the full name, lower-case, or ``*.name``: every name below it.
        """
        hosts = self.options.hosts
        if not hosts or name in hosts:
            return None
        if any(each.startswith("*.") and name.endswith(each[1:]) for each in hosts):
            return None
        return self._refusal(
            "not-permitted",
            f"may not have {printable(name)} made public, only {listing(hosts)}; ask for one of"
            " these, or add permithost=",
        )

    def _refusal(self, code: str, sentence: str) -> Refusal:
        return Refusal(code, f"key {self.key.fingerprint} ({self.where}) {sentence}")


class TrustedKeys:
    """The keys of one file, in its order.

    Args:
        keys: no raw key twice.
    """

    __slots__ = ("_by_raw",)

    def __init__(self, keys: Iterable[TrustedKey]) -> None:
        self._by_raw = {each.key.raw: each for each in keys}

    def get(self, raw_key: bytes) -> TrustedKey | None:
        """Return the key whose 32 bytes are ``raw_key``, or ``None``."""
        return self._by_raw.get(raw_key)

    def __iter__(self) -> Iterator[TrustedKey]:
        return iter(self._by_raw.values())

    def __len__(self) -> int:
        return len(self._by_raw)


def parse_trusted_keys(data: bytes, path: str) -> TrustedKeys:
    """Return the keys in the file's bytes.

    Args:
        data: UTF-8, with or without a byte order mark, any line ends; or the original tool's 32
            bytes of one raw public key, which may all.
        path: the file, as the user named it, for messages.

    Raises:
        TrustedKeysError: anything else; see this module's invariants.
    """
    if len(data) == KEY_BYTES and not _TEXT.fullmatch(data):
        return TrustedKeys([TrustedKey(_raw_key(data, path), KeyOptions(), path, 1)])
    found: dict[bytes, TrustedKey] = {}
    for number, line in enumerate(_text(data, path).split("\n"), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            key, options = _parse_line(stripped)
        except UsageError as error:
            raise TrustedKeysError(path, number, str(error)) from None
        entry = TrustedKey(key, options, path, number)
        other = found.setdefault(key.raw, entry)
        if other.options != options:
            raise TrustedKeysError(
                path,
                number,
                f"key {key.fingerprint} stands in line {other.line} with other options; keep one"
                " of the two lines",
            )
    if not found:
        raise TrustedKeysError(
            path,
            1,
            f"no key, so nobody could come in; add the line of a public key, or {MAKE_ONE}",
        )
    return TrustedKeys(found.values())


def _parse_line(line: str) -> tuple[PublicKey, KeyOptions]:
    """Return the key and options of a line that is neither blank nor a comment."""
    options, rest = KeyOptions(), line
    if not _is_key_type(line):
        pairs, rest = split_options(line)
        if not _is_key_type(rest):
            raise UsageError(
                f"not a key: {shown(line)}; write [options] ssh-ed25519 AAAA… [comment], without"
                " spaces between options"
            )
        options = parse_options(pairs)
    return PublicKey.from_openssh(rest), options


def _address(text: str) -> IPAddress | None:
    try:
        return parse_ip(text)
    except AddressError:
        return None


def _is_key_type(text: str) -> bool:
    words = text.split(None, 1)
    return bool(words) and _KEY_TYPE.fullmatch(words[0]) is not None


def _text(data: bytes, path: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise TrustedKeysError(path, 1, "the file is UTF-16; save it as UTF-8")
    if b"PRIVATE KEY-----" in data or (
        len(data) == _RAW_PRIVATE_BYTES and not _TEXT.fullmatch(data)
    ):
        raise TrustedKeysError(path, 1, "this is a private key; name the public key's file (.pub)")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        raise TrustedKeysError(
            path, line, f"not text: byte 0x{byte:02x}; the file has to be UTF-8, one key a line"
        ) from None


def _raw_key(data: bytes, path: str) -> PublicKey:
    try:
        return PublicKey.from_raw(data)
    except KeyFileError as error:
        raise TrustedKeysError(path, 1, str(error)) from None
