"""TLS contexts and handshakes on plain, non-blocking sockets.

Four contexts, all TLS 1.3 only (RFC 8446):

=====================  =================================  ==================================
context                shows                              accepts
=====================  =================================  ==================================
``relay_context``      the relay's x509 certificate       any introduced ed25519 key
``link_context``       an introduced ed25519 key          the pinned certificate, or the roots
``acceptor_context``   an introduced ed25519 key          any introduced ed25519 key
``opener_context``     an introduced ed25519 key          any introduced ed25519 key
=====================  =================================  ==================================

"Any introduced key" is deliberate (see ``common.introduction``): :func:`handshake` returns the
peer's proven key and the caller compares it.

Servers send no session tickets: a client that closes without reading them makes the kernel answer
its last bytes with a RST (measured: 3 of 200 uploads cut short). Without tickets there is no
resumption either, so every handshake proves the key anew.

A client's outer sockets are descriptor backed: OpenSSL reads one record at a time, so a session
can be dropped between two records and the raw socket used further (``SSLSocket.detach``). The relay
reads its side's records itself, one a turn: see ``relay_server.guest_session``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

import anyio
from cryptography import x509

from common.certificate_files import load_pair
from common.errors import HandshakeError, KeyFileError, LinkLost
from common.frames import INNER_ALPN
from common.introduction import anchor, credentials, peer_key
from common.keys import Identity
from common.wire import ALPN

SYSTEM_ROOTS = "system"
"""The value of ``--server-cert`` that means: the relay has a certificate of a public authority."""


def relay_context(certificate: str, key: str) -> ssl.SSLContext:
    """Return the relay's context for links.

    Raises:
        KeyFileError: the files cannot be read or do not belong together.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, ALPN)
    try:
        load_pair(context, certificate, key)
    except KeyFileError as error:
        raise KeyFileError(f"{error}; make a pair with: gen-cert x509") from None
    _expect_introduced_keys(context)
    return context


def link_context(identity: Identity, server_certificate: str) -> ssl.SSLContext:
    """Return a client's context for links to a relay.

    Args:
        identity: the key to prove.
        server_certificate: a PEM file, or ``system``. A file with plain certificates pins them:
            the relay must show one of them, under whatever name it was dialled. A file with a
            certificate authority accepts what it issued, and the relay's name is checked.

    Raises:
        KeyFileError: the file cannot be read or holds no certificate.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, ALPN)
    if server_certificate == SYSTEM_ROOTS:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        context.check_hostname = True
    else:
        context.check_hostname = _holds_authority(server_certificate)
        context.load_verify_locations(server_certificate)
        # A pinned certificate is trusted as it stands, be it self-signed or issued by others.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = ssl.CERT_REQUIRED
    _show(context, identity)
    return context


def acceptor_context(identity: Identity) -> ssl.SSLContext:
    """Return a reverse-proxy's context for the inner session; it is the TLS server."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, INNER_ALPN)
    _expect_introduced_keys(context)
    _show(context, identity)
    return context


def opener_context(identity: Identity) -> ssl.SSLContext:
    """Return an entry-point's context for the inner session; it is the TLS client."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, INNER_ALPN)
    _expect_introduced_keys(context)
    _show(context, identity)
    return context


def wrap(
    context: ssl.SSLContext, sock: socket.socket, *, server: bool, name: str | None = None
) -> ssl.SSLSocket:
    """Return ``sock`` (connected, non-blocking) with a TLS session not yet agreed.

    The returned socket owns the descriptor; ``sock`` is empty afterwards. ``name`` is what the
    server is called, for a context that checks it.

    Raises:
        LinkLost: the connection has already ended; ``sock`` is closed.
    """
    try:
        return context.wrap_socket(
            sock, server_side=server, server_hostname=name, do_handshake_on_connect=False
        )
    except OSError as error:
        sock.close()
        raise LinkLost(f"the connection ended before the TLS handshake: {error}") from None


class Handshaking(Protocol):
    """What a handshake needs of a session: an ``SSLSocket``'s part, or a ``Session``'s."""

    def fileno(self) -> int:
        """Return the socket's descriptor."""

    def do_handshake(self) -> None:
        """Go one step on, or raise what ``SSLSocket.do_handshake`` raises."""

    def selected_alpn_protocol(self) -> str | None:
        """Return the protocol agreed on."""

    def getpeercert(self, *, binary_form: Literal[True]) -> bytes | None:
        """Return the peer's certificate (DER)."""


async def handshake(tls: Handshaking, alpn: str) -> None:
    """Run the TLS handshake; deadlines are the caller's.

    Raises:
        HandshakeError: TLS could not be agreed, or the peer does not speak ``alpn``.
        LinkLost: the connection ended.
    """
    await agree(tls)
    if tls.selected_alpn_protocol() != alpn:
        raise HandshakeError(f"the peer does not speak {alpn}; is it a program of this suite?")


async def agree(tls: Handshaking) -> None:
    """Run the TLS handshake, whatever protocol is meant; deadlines are the caller's.

    Raises:
        HandshakeError: TLS could not be agreed.
        LinkLost: the connection ended.
    """
    while True:
        try:
            tls.do_handshake()
            return
        except ssl.SSLWantReadError:
            await anyio.wait_readable(tls)
        except ssl.SSLWantWriteError:
            await anyio.wait_writable(tls)
        except ssl.SSLError as error:
            raise HandshakeError(_reason(error)) from None
        except OSError as error:
            raise LinkLost(f"the connection ended in the TLS handshake: {_reason(error)}") from None


def proven_key(tls: Handshaking) -> bytes:
    """Return the peer's raw ed25519 key (32 bytes), proven by the handshake on ``tls``.

    Raises:
        HandshakeError: the peer's certificate holds no ed25519 key.
    """
    return peer_key(tls.getpeercert(binary_form=True))


def unwrap(tls: ssl.SSLSocket) -> socket.socket:
    """Drop the TLS session without a word and return the raw socket under it."""
    family, kind, proto = tls.family, tls.type, tls.proto
    sock = socket.socket(family, kind, proto, fileno=tls.detach())
    sock.setblocking(False)
    return sock


def _context(protocol: int, alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([alpn])
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    return context


def _expect_introduced_keys(context: ssl.SSLContext) -> None:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=anchor())


def _show(context: ssl.SSLContext, identity: Identity) -> None:
    with _as_file(credentials(identity)) as path:
        context.load_cert_chain(path)


@contextlib.contextmanager
def _as_file(secret: bytes) -> Iterator[str]:
    """Yield a path under which ``secret`` can be read; it stays off the disk where it can."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("identity", os.MFD_CLOEXEC)
        try:
            os.write(fd, secret)
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)
        return
    import tempfile  # 1 MiB that Linux does not need

    with tempfile.TemporaryDirectory() as directory:  # 0700, and the file in it 0600
        path = Path(directory, "identity.pem")
        path.touch(0o600)
        path.write_bytes(secret)
        yield str(path)


def _holds_authority(path: str) -> bool:
    try:
        return any(map(_is_authority, x509.load_pem_x509_certificates(Path(path).read_bytes())))
    except OSError as error:
        raise KeyFileError(
            f"cannot read the relay's certificate {path}: {error.strerror}; copy server.crt from "
            "the relay, or name it with --server-cert (or 'system' for a public one)"
        ) from None
    except (ValueError, x509.InvalidVersion, x509.DuplicateExtension):
        raise KeyFileError(
            f"{path} holds no certificate in PEM form; copy server.crt from the relay"
        ) from None


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return found.value.ca


def _reason(error: OSError) -> str:
    """Return what went wrong in words: ``certificate verify failed: self-signed certificate``."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return error.strerror or str(error)
