"""Socket pairs and TLS sessions between two identities, for tests of what runs on them."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl

from common.frames import INNER_ALPN
from common.keys import Identity
from common.session import Session
from common.sockets import tune
from common.tls import acceptor_context, handshake, opener_context, wrap

ANN = Identity.from_seed(b"ann" + bytes(29))
BOB = Identity.from_seed(b"bob" + bytes(29))
EVE = Identity.from_seed(b"eve" + bytes(29))


@functools.cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The inner contexts of an opener, Ann, and an acceptor, Bob."""
    return opener_context(ANN), acceptor_context(BOB)


def tcp_pair(buffer: int = 0) -> tuple[socket.socket, socket.socket]:
    """Two ends of one loopback connection, non-blocking; ``buffer`` makes both send buffers small.

    Loopback TCP and not ``socketpair``: only TCP has a RST.
    """
    with socket.socket() as listener:
        if buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        left = socket.socket()
        if buffer:
            left.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        left.connect(listener.getsockname())
        right, _ = listener.accept()
    for sock in (left, right):
        sock.setblocking(False)
        tune(sock)
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    return left, right


async def opener_session(buffer: int = 0) -> tuple[Session, ssl.SSLSocket]:
    """An inner session as a channel has it at the opener, and its far end as a socket."""
    client, server = contexts()
    left, right = tcp_pair(buffer)
    one, other = Session(client, left, server=False), wrap(server, right, server=True)
    await asyncio.gather(handshake(one, INNER_ALPN), handshake(other, INNER_ALPN))
    return one, other


async def acceptor_session(buffer: int = 0) -> tuple[ssl.SSLSocket, Session]:
    """An inner session's far end as a socket, and as a channel has it at the acceptor."""
    client, server = contexts()
    left, right = tcp_pair(buffer)
    one, other = wrap(client, left, server=False), Session(server, right, server=True)
    await asyncio.gather(handshake(one, INNER_ALPN), handshake(other, INNER_ALPN))
    return one, other


async def session_pair(buffer: int = 0) -> tuple[Session, Session]:
    """Both ends of an inner session as channels have them."""
    client, server = contexts()
    left, right = tcp_pair(buffer)
    one, other = Session(client, left, server=False), Session(server, right, server=True)
    await asyncio.gather(handshake(one, INNER_ALPN), handshake(other, INNER_ALPN))
    return one, other


async def tls_pair(buffer: int = 0) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """The two ends of an inner session: the opener's, the acceptor's."""
    client, server = contexts()
    left, right = tcp_pair(buffer)
    one, other = wrap(client, left, server=False), wrap(server, right, server=True)
    await asyncio.gather(handshake(one, INNER_ALPN), handshake(other, INNER_ALPN))
    return one, other
