"""Every error the suite raises on purpose, as one tree.

``RelayError``
    ``UsageError``          ours to fix: a flag, a file, a key; the programs end with status 2
        ``SettingError``, ``AddressError``, ``RouteError``, ``KeyFileError``, ``TrustedKeysError``
    ``PeerError``           theirs: what a peer sent, or did not send
        ``ProtocolError``   bytes that the protocol does not allow
        ``HandshakeError``  TLS could not be agreed, or showed the wrong key
        ``DeniedError``     the relay said no
        ``LinkLost``        the connection ended or fell silent
        ``HttpError``       a message of HTTP that is not passed on

Each message names the offending value and the next step; ``str(error)`` is what the user reads.
"""

from __future__ import annotations


class RelayError(Exception):
    """Base of all errors raised on purpose."""


class UsageError(RelayError):
    """Something the person who runs the program can put right. Exit status 2."""


class SettingError(UsageError):
    """A flag, environment variable or configuration key that does not fit."""


class AddressError(UsageError):
    """Text that is not the address, port, network or host it should be."""


class RouteError(UsageError):
    """A route that cannot be understood, or two routes that cannot be told apart."""


class KeyFileError(UsageError):
    """A key or certificate file that is missing, malformed, or readable by others."""


class TrustedKeysError(UsageError):
    """A line of a trusted keys file that does not parse.

    Args:
        path: the file, as the user named it.
        line: the line number, from 1.
        reason: what is wrong and what to do, with the offending value.
    """

    def __init__(self, path: str, line: int, reason: str) -> None:
        super().__init__(f"{path}:{line}: {reason}")
        self.path, self.line, self.reason = path, line, reason


class PeerError(RelayError):
    """A peer did something that ends this connection; the program goes on."""


class ProtocolError(PeerError):
    """Bytes from a peer that the protocol does not allow."""


class HandshakeError(PeerError):
    """A TLS handshake failed, or ended with a key or certificate that is not the right one."""


class DeniedError(PeerError):
    """The relay refused a link and said why.

    Args:
        code: the reason's stable name, such as ``"unknown-key"``.
        detail: the sentence for the user: the cause and the next step.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


class LinkLost(PeerError):  # noqa: N818 - an event more than an error; the name says what happened
    """A link or channel ended without a farewell, or fell silent."""


class HttpError(PeerError):
    """A message of HTTP that is not passed on.

    Args:
        status: of the answer, 400 to 599.
        reason: the cause, in words that go into a sentence.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason
