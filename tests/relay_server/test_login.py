"""What a stranger may get wrong; what it gets right, and the deadlines, are in test_relay_links."""

from __future__ import annotations

import asyncio
import socket

import pytest

from common.addresses import HostPort
from common.errors import DeniedError, HandshakeError, LinkLost, PeerError, ProtocolError
from common.message_io import MessageStream
from common.refusals import Refusal
from common.tls import handshake, wrap
from common.wire import ALPN, Denied, Hello, Message, Ping, Ready, Trust
from relay_server.login import Admitted, login, unknown_key
from relay_server.turns import Turns
from tests.common.fake_relay import new_client, relay_side
from tests.common.loops import on_both_loops, run
from tests.common.sessions import ANN, BOB, EVE, tcp_pair

HELLO = Hello([1], "entry-point", "0", b"i" * 16, "test")
ADDRESS = HostPort("192.0.2.1", 4711)


async def meet(
    *messages: Message, refusal: Refusal | None = None
) -> tuple[Admitted | PeerError, list[Message], list[object]]:
    """Log in with ``messages``; return the relay's verdict, what the client heard, and who was
    judged."""
    left, right = tcp_pair()
    judged: list[object] = []
    heard: list[Message] = []

    def judge(key: bytes, hello: Hello, address: HostPort) -> Refusal | None:
        judged.append((key, hello, address))
        return refusal

    async def relay() -> Admitted | PeerError:
        try:
            admitted = await login(
                right, ADDRESS, relay_side(), judge, lambda: judged.append("spoke"), Turns()
            )
        except PeerError as error:
            return error
        admitted.tls.close()
        return admitted

    async def client() -> None:
        tls = wrap(new_client().context, left, server=False)
        await handshake(tls, ALPN)
        stream = MessageStream(tls)
        await stream.send(*messages)
        try:
            while True:
                heard.append(await stream.receive())
        except LinkLost:
            tls.close()

    verdict, _ = await asyncio.gather(relay(), client())
    return verdict, heard, judged


@on_both_loops
def test_a_client_is_admitted_with_the_key_that_it_has_proven(kind: str) -> None:
    async def main() -> None:
        keys = [each.public.raw for each in (ANN, BOB, EVE)]
        verdict, _, judged = await meet(Trust(keys[:2]), Trust(keys[1:]), HELLO)
        assert isinstance(verdict, Admitted)
        assert verdict.party.key == ANN.public.raw
        assert verdict.party.partners == frozenset(keys)
        assert (verdict.party.role, verdict.party.group) == ("entry-point", "0")
        assert judged == ["spoke", (ANN.public.raw, HELLO, ADDRESS)]
        again, _, _ = await meet(Trust(keys), HELLO)
        assert isinstance(again, Admitted)
        assert again.party.partners is verdict.party.partners  # one set for many links

    run(kind, main)


@on_both_loops
def test_a_refusal_reaches_the_client(kind: str) -> None:
    async def main() -> None:
        refusal = unknown_key(ANN.public.raw, "keys.txt")
        verdict, heard, _ = await meet(HELLO, refusal=refusal)
        assert isinstance(verdict, DeniedError)
        assert heard == [Denied(refusal.code, refusal.detail)]
        assert ANN.public.fingerprint in refusal.detail
        assert ANN.public.openssh() in refusal.detail
        assert "keys.txt" in refusal.detail

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize(
    ("message", "words"),
    [
        (Ping(), "PING is not allowed on a link that is greeting"),
        (Ready(), "READY is not allowed on a link that is greeting"),
        (Denied("x", "y"), "DENIED instead of HELLO"),
    ],
)
def test_another_greeting_is_a_protocol_error(kind: str, message: Message, words: str) -> None:
    async def main() -> None:
        verdict, heard, judged = await meet(message)
        assert isinstance(verdict, ProtocolError)
        assert str(verdict) == words
        assert (heard, judged) == ([], ["spoke"])

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("first", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x16\x03\x01\x00\x01\x00", b"\0"])
def test_garbage_ends_without_a_word_and_closed(kind: str, first: bytes) -> None:
    async def main() -> None:
        left, right = tcp_pair()
        left.send(first)
        left.shutdown(socket.SHUT_WR)
        with pytest.raises((HandshakeError, LinkLost)):
            await login(right, ADDRESS, relay_side(), lambda *_: None, lambda: None, Turns())
        left.close()

    run(kind, main)
