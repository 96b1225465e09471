"""Turns a link that has been paired into an inner session with the partner."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final

import anyio

from common.errors import HandshakeError, LinkLost, ProtocolError
from common.frames import INNER_ALPN
from common.joined import Joined
from common.keys import PublicKey
from common.link import Client, Link
from common.session import Session
from common.tls import handshake, proven_key, unwrap
from common.wire import Paired, Purpose, Visit

INNER_DEADLINE_S: Final = 15.0
"""Seconds from PAIRED to a working channel; the relay gives both sides 10 s for READY."""


class PairJoiner:
    """Joins pairs for one client.

    Args:
        client: who we are.
        inner: the context of the inner session, for the client's role.
        on_joined: takes over an inner session.
        on_backlog: told what the relay says about the other side's need.
    """

    purpose: Purpose = "pair"

    def __init__(
        self,
        client: Client,
        inner: ssl.SSLContext,
        *,
        on_joined: Callable[[Joined], None],
        on_backlog: Callable[[int], None],
    ) -> None:
        self._client = client
        self._inner = inner
        self._on_joined = on_joined
        self._on_backlog = on_backlog

    async def join(self, link: Link, call: Paired | Visit | None) -> None:
        """Hand the link over and agree on the inner session.

        Raises:
            PeerError: nothing came of it; the link is closed.
        """
        is_opener = self._client.role == "entry-point"
        try:
            if not isinstance(call, Paired):
                raise ProtocolError("VISIT from the relay on a link that waits for a partner")
            self._on_backlog(call.backlog)
            if call.opener is not is_opener:
                raise ProtocolError("the relay gave this link the wrong part")
            if not self._client.accepts(call.partner):
                raise HandshakeError(
                    f"the relay offers partner {PublicKey(call.partner).fingerprint}, which is "
                    "not in --trusted-keys"
                )
            tls = await link.hand_over()
        except BaseException:
            link.close()
            raise
        inner = Session(self._inner, unwrap(tls), server=not is_opener)
        try:
            with anyio.fail_after(INNER_DEADLINE_S):
                await handshake(inner, INNER_ALPN)
            # The one line that says who the partner is: see common.introduction.
            if proven_key(inner) != call.partner:
                raise HandshakeError("the partner's key is not the one that the relay announced")
        except TimeoutError:
            inner.close()
            raise LinkLost(f"a partner did not answer within {INNER_DEADLINE_S:g} s") from None
        except BaseException:
            inner.close()
            raise
        self._on_joined(Joined(inner, call.partner, call.instance, link.heartbeat_s))
