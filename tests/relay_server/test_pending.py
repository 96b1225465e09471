"""One pending link, its owner played by the test; whole relays are in test_relay."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest

from common.addresses import HostPort
from common.frames import INNER_ALPN
from common.link_states import LinkState
from common.message_io import MessageStream
from common.sockets import close_with_reset
from common.tls import handshake, unwrap, wrap
from common.wire import Hello, Message, Paired, Ping, Pong, Ready, Welcome, encode
from relay_server.guest_session import GuestSession
from relay_server.login import Admitted
from relay_server.matchmaker import Party
from relay_server.pending import MESSAGES_AT_ONCE, PendingLink
from tests.common.loops import on_both_loops, run, turns, until
from tests.common.sessions import contexts, tcp_pair

PARTY = Party("entry-point", "0", bytes(32), bytes(16), frozenset())
PAIRED = Paired(bytes(32), bytes(16), True, 0)


class Bench:
    def __init__(self, client: ssl.SSLSocket, tls: GuestSession) -> None:
        self.client, self.messages = client, MessageStream(client)
        self.ready: list[PendingLink] = []
        self.lost: list[str] = []
        state = LinkState()
        state.advance(Hello([1], "entry-point", "0", bytes(16)))
        self.link = PendingLink(
            asyncio.get_running_loop(),
            Admitted(tls, state, PARTY, "test", "pair"),
            HostPort("192.0.2.1", 1),
            self,
        )
        assert self.link.send(Welcome(1, 1, 5.0))

    def on_message(self, link: PendingLink, message: Message) -> None:
        self.ready.append(link)

    def on_lost(self, link: PendingLink, reason: str) -> None:
        assert link.closed
        self.lost.append(reason)

    def close(self) -> None:
        self.link.close()
        self.client.close()


async def bench(buffer: int = 0) -> Bench:
    client, server = contexts()
    left, right = tcp_pair(buffer)
    one, other = wrap(client, left, server=False), GuestSession(server, right)
    await asyncio.gather(handshake(one, INNER_ALPN), handshake(other, INNER_ALPN))
    return Bench(one, other)


@on_both_loops
def test_pings_are_answered_until_paired(kind: str) -> None:
    async def main() -> None:
        b = await bench()
        for _ in range(3):
            await b.messages.send(Ping())
        assert isinstance(await b.messages.receive(), Welcome)
        assert [await b.messages.receive() for _ in range(3)] == [Pong()] * 3
        assert b.link.send(PAIRED)
        assert b.link.paired
        await b.messages.send(Ping(), Ready())
        await until(lambda: b.ready, "ready")
        assert await b.messages.receive() == PAIRED
        with pytest.raises(ssl.SSLWantReadError):
            b.client.recv(1)
        assert not b.lost
        b.close()

    run(kind, main)


@on_both_loops
def test_the_raw_socket_is_handed_over_with_the_partner_s_first_byte_in_it(kind: str) -> None:
    async def main() -> None:
        b = await bench()
        b.link.send(PAIRED)
        b.client.send(encode(Ready()))
        raw = unwrap(b.client)
        raw.send(b"\x16 first flight")
        await until(lambda: b.ready, "ready")
        await turns()
        sock = b.link.hand_over()
        assert b.link.closed
        assert sock.recv(100) == b"\x16 first flight"
        sock.close()
        raw.close()
        assert not b.lost

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize(
    ("paired", "messages", "words"),
    [
        (True, [Ready(), Ping()], "bytes after READY"),
        (False, [Ready()], "READY is not allowed on a link that is pending"),
        (True, [Pong()], "PONG is not allowed on a link that is paired"),
        (False, [Pong()], "PONG from a client"),
        (False, [PAIRED], "PAIRED from a client"),
    ],
)
def test_what_is_not_allowed_ends_the_link(
    kind: str, paired: bool, messages: list[Message], words: str
) -> None:
    async def main() -> None:
        b = await bench()
        if paired:
            b.link.send(PAIRED)
        await b.messages.send(*messages)
        await until(lambda: b.lost, "lost")
        assert b.lost == [f"protocol error: {words}"]
        assert b.ready == []
        b.link.lose("again")
        assert len(b.lost) == 1
        b.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("how", ["close", "reset"])
def test_an_end_is_a_loss_told_once(kind: str, how: str) -> None:
    async def main() -> None:
        b = await bench()
        if how == "close":
            b.client.close()
        else:
            close_with_reset(unwrap(b.client))
        await until(lambda: b.lost, "lost")
        await turns()
        assert len(b.lost) == 1
        assert not b.link.send(Pong())
        b.close()

    run(kind, main)


@on_both_loops
def test_a_client_that_does_not_read_is_lost_and_not_waited_for(kind: str) -> None:
    async def main() -> None:
        b = await bench(16 * 1024)
        for _ in range(200_000):
            if b.lost:
                break
            with contextlib.suppress(ssl.SSLWantWriteError):
                b.client.send(encode(Ping()) * 100)
            await asyncio.sleep(0)
        assert b.lost == ["writing failed: the client does not read"]
        b.close()

    run(kind, main)


@on_both_loops
def test_a_flood_in_one_record_is_taken_in_turns_and_whole(kind: str) -> None:
    async def main() -> None:
        b = await bench()
        count = 20 * MESSAGES_AT_ONCE
        b.client.send(encode(Ping()) * count)
        assert isinstance(await b.messages.receive(), Welcome)
        for _ in range(count):
            assert await b.messages.receive() == Pong()
        b.close()

    run(kind, main)


def test_the_socket_is_not_a_stranger_s() -> None:
    """Closing twice does not close a descriptor that has been used again."""

    async def main() -> None:
        b = await bench()
        b.link.close()
        other = socket.socket()
        b.link.close()
        assert other.fileno() >= 0
        assert other.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        other.close()
        b.close()

    run("asyncio", main)
