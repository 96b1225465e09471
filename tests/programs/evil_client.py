"""A client of the relay that does what it wants: blocking, and made of the project's own codec."""

from __future__ import annotations

import _ssl
import ctypes
import os
import socket
import ssl
from collections.abc import Iterator
from types import TracebackType

from common import frames
from common.addresses import HostPort
from common.keys import Identity
from common.tls import acceptor_context, link_context, opener_context
from common.wire import (
    VERSION,
    Hello,
    Message,
    MessageReader,
    Paired,
    Ready,
    Role,
    Welcome,
    encode,
    trust_messages,
)
from tests.programs.harness import DEADLINE_S, Program, Suite

DATA, FIN = frames.encode(frames.DATA, b"data"), frames.encode(frames.FIN)


def send(tls: ssl.SSLSocket, *messages: Message) -> None:
    tls.sendall(b"".join(map(encode, messages)))


def receive(tls: ssl.SSLSocket) -> Message | None:
    """Return the next control message, or ``None`` at the end."""
    reader = MessageReader()
    while True:
        data = tls.recv(reader.need)
        if not data:
            return None
        message = reader.feed(data)
        if message is not None:
            return message


def is_ended(sock: socket.socket) -> bool:
    """Wait for the other side's end; whether it came in time, be it a FIN, an alert or a RST."""
    try:
        while sock.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def raw_socket(tls: ssl.SSLSocket) -> socket.socket:
    """Drop the outer session and return the raw socket."""
    sock = socket.socket(tls.family, tls.type, tls.proto, fileno=tls.detach())
    sock.settimeout(DEADLINE_S)
    return sock


def update_keys(tls: ssl.SSLSocket, count: int) -> None:
    """Send ``count`` KeyUpdate messages (RFC 8446, section 4.6.3): records without data.

    The ``ssl`` module has no such call, but the library under it has.

    Raises:
        OSError: the connection has ended.
    """
    library = ctypes.CDLL(_ssl.__file__)
    library.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.SSL_do_handshake.argtypes = [ctypes.c_void_p]
    # PySSLSocket (Modules/_ssl.c): the object's head, the Python socket, then the SSL of OpenSSL.
    place = id(tls._sslobj) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)  # type: ignore[attr-defined]
    session = ctypes.c_void_p.from_address(place).value
    for _ in range(count):
        if library.SSL_key_update(session, 0) != 1 or library.SSL_do_handshake(session) != 1:
            raise BrokenPipeError("the other side has had enough")


class EvilClient:
    """A link to the relay whose TLS is agreed and which has said nothing yet."""

    def __init__(
        self, relay: HostPort, identity: Identity, certificate: str, source: str = "127.0.0.1"
    ) -> None:
        self.identity = identity
        sock = socket.create_connection(
            (relay.host, relay.port), DEADLINE_S, source_address=(source, 0)
        )
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = link_context(identity, certificate)
        self.tls = context.wrap_socket(sock, server_hostname=relay.host)

    def hello(self, role: Role, group: str = "0", versions: tuple[int, ...] = (VERSION,)) -> Hello:
        return Hello(list(versions), role, group, os.urandom(16), "evil")

    def login(
        self, role: Role, group: str = "0", partners: list[bytes] | None = None
    ) -> Message | None:
        """Introduce ourselves and return the relay's verdict."""
        keys = [self.identity.public.raw] if partners is None else partners
        send(self.tls, *trust_messages(keys), self.hello(role, group))
        return receive(self.tls)

    def pending(self, role: Role, group: str = "0") -> EvilClient:
        assert isinstance(self.login(role, group), Welcome)
        return self

    def paired(self) -> Paired:
        message = receive(self.tls)
        assert isinstance(message, Paired), message
        return message

    def inner(self, role: Role) -> ssl.SSLSocket:
        """Wait for a partner, say READY and agree on the inner session."""
        self.paired()
        send(self.tls, Ready())
        return inner_session(raw_socket(self.tls), self.identity, role)

    def close(self) -> None:
        self.tls.close()

    def __enter__(self) -> EvilClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def dial(suite: Suite, relay: Program, identity: Identity | None = None) -> EvilClient:
    """Connect to a relay of the suite, with the suite's own key if no other is given."""
    certificate = str(suite.path("server.crt"))
    return EvilClient(relay.addresses()[0], identity or suite.identity, certificate)


def inner_session(sock: socket.socket, identity: Identity, role: Role) -> ssl.SSLSocket:
    """Agree on the inner session as ``role`` would; the result owns ``sock``."""
    if role == "entry-point":
        return opener_context(identity).wrap_socket(sock)
    return acceptor_context(identity).wrap_socket(sock, server_side=True)


def open_frame(destination: HostPort, group: str = "0") -> bytes:
    return frames.encode_open(
        frames.Open(group, "tcp", destination.host, destination.port, "192.0.2.9", 4711)
    )


def read_frames(tls: ssl.SSLSocket) -> Iterator[tuple[int, bytes]]:
    """Yield ``(kind, payload)`` until the session ends, however it ends; PINGs are answered."""
    reader = frames.FrameReader()
    while True:
        try:
            data = tls.recv(65536)
        except TimeoutError:
            raise
        except OSError:
            return
        if not data:
            return
        view, position = memoryview(data), 0
        while position < len(view):
            kind, payload, position = reader.next(view, position)
            if kind == frames.PING:
                tls.sendall(frames.encode(frames.PONG))
            elif kind:
                yield kind, bytes(payload)
