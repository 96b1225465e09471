from __future__ import annotations

import asyncio

import anyio
import pytest

from common.errors import LinkLost, ProtocolError
from common.message_io import MessageStream
from common.sockets import close_with_reset
from common.tls import unwrap
from common.wire import Message, Ping, Pong, Trust, encode
from tests.common.loops import on_both_loops, run, turns
from tests.common.sessions import tls_pair

BIG = Trust([bytes(32)] * 100)


@on_both_loops
def test_messages_come_one_at_a_time_and_nothing_beyond_is_read(kind: str) -> None:
    async def main() -> None:
        one, two = await tls_pair()
        sender, receiver = MessageStream(one), MessageStream(two)
        await sender.send(Ping(), BIG, Pong())
        assert await receiver.receive() == Ping()
        early = receiver.clean
        assert not early  # decrypted already, and not ours to hand over
        assert [await receiver.receive(), await receiver.receive()] == [BIG, Pong()]
        assert receiver.clean
        one.close()
        two.close()

    run(kind, main)


@on_both_loops
def test_a_receive_may_be_cancelled_between_two_bytes(kind: str) -> None:
    async def main() -> None:
        one, two = await tls_pair()
        receiver, found = MessageStream(two), list[Message]()
        for byte in encode(BIG)[:50]:
            one.send(bytes([byte]))
            with anyio.move_on_after(0.0005):
                found.append(await receiver.receive())
        one.send(encode(BIG)[50:])
        assert found == []
        assert await receiver.receive() == BIG
        one.close()
        two.close()

    run(kind, main)


@on_both_loops
def test_more_than_the_socket_holds_is_sent_as_the_other_reads(kind: str) -> None:
    async def main() -> None:
        one, two = await tls_pair(16 * 1024)
        sending = asyncio.create_task(MessageStream(one).send(*[BIG] * 200))
        await turns()
        assert not sending.done()
        receiver = MessageStream(two)
        for _ in range(200):
            assert await receiver.receive() == BIG
        await sending
        one.close()
        two.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("how", ["close", "reset", "half a message"])
def test_an_end_is_a_loss(kind: str, how: str) -> None:
    async def main() -> None:
        one, two = await tls_pair()
        if how == "half a message":
            one.send(encode(BIG)[:10])
        if how == "reset":
            close_with_reset(unwrap(one))
        else:
            one.close()
        stream = MessageStream(two)
        with pytest.raises(LinkLost, match="ended"):
            await stream.receive()

        async def send_on() -> None:
            for _ in range(100):
                await stream.send(BIG)
                await asyncio.sleep(0)

        with pytest.raises(LinkLost, match="the connection ended"):
            await send_on()
        two.close()

    run(kind, main)


def test_what_is_no_message_is_a_protocol_error() -> None:
    async def main() -> None:
        one, two = await tls_pair()
        one.send(b"\x00\x00")
        with pytest.raises(ProtocolError):
            await MessageStream(two).receive()
        one.close()
        two.close()

    run("asyncio", main)


@on_both_loops
def test_a_peer_that_never_stops_talking_leaves_others_their_turn(kind: str) -> None:
    async def main() -> None:
        one, two = await tls_pair()
        await MessageStream(one).send(*[Ping()] * 500)
        receiver, others = MessageStream(two), 0

        async def talk() -> None:
            for _ in range(500):
                await receiver.receive()

        talking = asyncio.create_task(talk())
        while not talking.done():
            others += 1
            await asyncio.sleep(0)
        assert others > 100
        one.close()
        two.close()

    run(kind, main)
