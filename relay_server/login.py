"""From a stranger's TCP connection to a judged client, with a deadline for each step.

Nothing is spent on a stranger before it speaks: the TLS session (45 KiB) is made only after the
first byte has come, and one in a turn of the loop. A refusal that the peer can understand is sent
as DENIED; everything before that ends with a TLS alert or without a word.
"""

from __future__ import annotations

import socket
import ssl
import weakref
from collections.abc import Callable
from typing import Final

import anyio

from common.addresses import HostPort
from common.errors import DeniedError, HandshakeError, LinkLost, ProtocolError
from common.keys import PublicKey
from common.link_states import LinkState
from common.message_io import MessageStream
from common.refusals import Refusal
from common.tls import handshake, proven_key
from common.wire import ALPN, MAX_PARTNERS, VERSION, Denied, Hello, Purpose, Trust, sentence
from relay_server.guest_session import GuestSession
from relay_server.matchmaker import Party
from relay_server.turns import Turns

FIRST_BYTE_S: Final = 5.0
"""Seconds a stranger may be silent: five times what a bad mobile network needs."""
HANDSHAKE_S: Final = 10.0
"""Seconds from the first byte to HELLO: TLS needs one round trip, HELLO none."""
DENIED_S: Final = 2.0
"""Seconds to get a DENIED out."""

Judge = Callable[[bytes, Hello, HostPort], Refusal | None]
"""Takes the proven key, the HELLO and the address; says why the client may not come in."""


class Admitted:
    """A client that has passed: its session, its state, and what it is for matching."""

    def __init__(
        self, tls: GuestSession, state: LinkState, party: Party, software: str, purpose: Purpose
    ) -> None:
        self.tls, self.state, self.party = tls, state, party
        self.software, self.purpose = software, purpose


async def login(
    sock: socket.socket,
    address: HostPort,
    context: ssl.SSLContext,
    judge: Judge,
    on_first_byte: Callable[[], None],
    turns: Turns,
) -> Admitted:
    """Return the client at the other end of ``sock``; on any error the connection is closed.

    Args:
        judge: says whether the client may come in.
        on_first_byte: told when the stranger has spoken.
        turns: when a handshake may begin.

    Raises:
        LinkLost: it ended, or was too slow.
        HandshakeError: it did not speak TLS 1.3 with our ALPN and an ed25519 key.
        ProtocolError: it did not introduce itself properly.
        DeniedError: it did, but may not come in; it has been told.
    """
    try:
        with anyio.fail_after(FIRST_BYTE_S):
            await anyio.wait_readable(sock)
    except TimeoutError:
        sock.close()
        raise LinkLost(f"silent for {FIRST_BYTE_S:g} s") from None
    except BaseException:
        sock.close()
        raise
    on_first_byte()
    try:  # closing the socket is all that the session needs
        with anyio.fail_after(HANDSHAKE_S):
            await turns.take()
            tls = GuestSession(context, sock)
            await handshake(tls, ALPN)
            return await _introduction(tls, address, judge)
    except TimeoutError:
        sock.close()
        raise LinkLost(f"no HELLO within {HANDSHAKE_S:g} s of the first byte") from None
    except HandshakeError as error:
        sock.close()
        raise HandshakeError(f"{error}{_advice(str(error))}") from None
    except BaseException:
        sock.close()
        raise


def _advice(reason: str) -> str:
    """Return the next step for a handshake that failed for ``reason``, where there is one."""
    if "certificate expired" in reason:
        return "; this relay's certificate has expired: gen-cert x509 --force"
    if "alert" in reason and ("unknown ca" in reason or "certificate" in reason):
        return (
            "; the client does not accept this relay's certificate: copy server.crt to it, and"
            " name it with --server-cert there"
        )
    return ""


async def _introduction(tls: GuestSession, address: HostPort, judge: Judge) -> Admitted:
    """Read TRUST and HELLO, and judge them with the key that TLS has proven."""
    key = proven_key(tls)
    state = LinkState()
    messages = MessageStream(tls)
    partners: set[bytes] = set()
    named = 0
    while True:
        message = await messages.receive()
        state.advance(message)
        if isinstance(message, Hello):
            break
        if not isinstance(message, Trust):
            raise ProtocolError(f"{type(message).__name__.upper()} instead of HELLO")
        partners.update(message.keys)
        # A key named twice counts twice, and none counts as one, or this could go on for ever.
        named += len(message.keys) or 1
        if named > MAX_PARTNERS:
            raise ProtocolError(f"more than {MAX_PARTNERS} partner keys")
    refusal = _version(message) or judge(key, message, address)
    if refusal is not None:
        denied = Denied(refusal.code, sentence(refusal.detail))
        state.advance(denied)
        with anyio.move_on_after(DENIED_S):
            await messages.send(denied)
        raise DeniedError(refusal.code, refusal.detail)
    party = Party(message.role, message.group, key, message.instance, _shared(frozenset(partners)))
    return Admitted(tls, state, party, message.software, message.purpose)


def _version(hello: Hello) -> Refusal | None:
    if VERSION in hello.versions:
        return None
    offered = ", ".join(map(str, hello.versions))
    return Refusal(
        "wrong-version",
        f"this relay speaks version {VERSION} of the protocol, the client {offered}; "
        "use programs of the same release",
    )


_sets: weakref.WeakKeyDictionary[frozenset[bytes], weakref.ref[frozenset[bytes]]] = (
    weakref.WeakKeyDictionary()
)
"""Partner keys of the links of now. 4,096 keys take half a MiB: nobody keeps them for nothing."""


def _shared(keys: frozenset[bytes]) -> frozenset[bytes]:
    """Return an equal set that a link of now uses as well: a client has many links, one set."""
    reference = _sets.get(keys)
    other = None if reference is None else reference()
    if other is not None:
        return other
    _sets[keys] = weakref.ref(keys)
    return keys


def unknown_key(key: bytes, path: str) -> Refusal:
    """Return the refusal for a key that is in no line of the trusted keys file ``path``."""
    public = PublicKey(key)
    return Refusal(
        "unknown-key",
        f"the relay does not know key {public.fingerprint}; to admit it, add this line to {path} "
        f"on the relay and send the relay a SIGHUP: {public.openssh()}",
    )
