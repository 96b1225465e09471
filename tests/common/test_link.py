from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import pytest

from common import link as module
from common.addresses import HostPort
from common.errors import DeniedError, HandshakeError, LinkLost, PeerError, ProtocolError
from common.link import Link, login
from common.listener import Listener
from common.sockets import listen
from common.wire import VERSION, Denied, GoAway, Paired, Ping, Pong, Purpose, Ready, Visit, Welcome
from tests.common.fake_relay import FakeRelay, Session, new_client
from tests.common.loops import on_both_loops, run, until
from tests.common.sessions import BOB

PAIRED = Paired(BOB.public.raw, b"B" * 16, True, 3)


async def forever(session: Session) -> None:
    while True:
        await session.receive()


async def log_in(relay: FakeRelay, goaways: list[None] | None = None) -> Link:
    told = goaways if goaways is not None else []
    return await login(relay.address, new_client(), lambda: told.append(None))


@on_both_loops
def test_from_the_login_to_the_hand_over(kind: str) -> None:
    async def main() -> None:
        async def script(session: Session) -> None:
            hello = await session.welcome(0.01)
            assert (hello.versions, hello.role, hello.group) == ([VERSION], "entry-point", "0")
            assert isinstance(await session.receive(), Ping)
            await session.send(Pong(), GoAway())
            assert isinstance(await session.receive(), Ping)
            with await session.pair(backlog=3) as raw:
                raw.send(b"raw bytes")

        relay, goaways = FakeRelay(script), list[None]()
        link = await log_in(relay, goaways)
        assert link.heartbeat_s == 0.01
        assert await link.wait() == PAIRED
        assert goaways == [None]
        tls = await link.hand_over()
        got = b""
        while not got:
            await asyncio.sleep(0)
            with contextlib.suppress(BlockingIOError):
                got = socket.socket.recv(tls, 100)
        assert got == b"raw bytes"
        tls.close()
        await relay.close()
        assert relay.errors == []

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("purpose", ["pair", "raw"])
def test_a_raw_socket_ends_with_a_reset_before_the_relay_may_use_it(
    kind: str, purpose: Purpose
) -> None:
    """Killed after READY: a FIN would be the destination's. A channel has frames for its ends."""

    async def main() -> None:
        async def script(session: Session) -> None:
            await session.welcome()
            visit = Visit(1, "192.0.2.7", 4711, "192.0.2.1", 80)
            await session.send(visit if purpose == "raw" else PAIRED)
            assert isinstance(await session.receive(), Ready)

        relay = FakeRelay(script)
        link = await login(relay.address, new_client(), lambda: None, purpose)
        await link.wait()
        tls = await link.hand_over()
        assert lingers(tls) == ((1, 0) if purpose == "raw" else (0, 0))
        tls.close()
        await relay.close()

    run(kind, main)


def lingers(sock: socket.socket) -> tuple[int, int]:
    on, seconds = struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))
    return on, seconds


@on_both_loops
def test_a_denial_is_told_in_the_relay_s_words(kind: str) -> None:
    async def main() -> None:
        async def script(session: Session) -> None:
            await session.greeting()
            await session.send(Denied("unknown-key", "the relay does not know this key"))

        relay = FakeRelay(script)
        with pytest.raises(DeniedError, match="the relay does not know this key") as caught:
            await log_in(relay)
        assert caught.value.code == "unknown-key"
        await relay.close()

    run(kind, main)


@on_both_loops
def test_a_welcome_may_be_taken_back(kind: str) -> None:
    async def main() -> None:
        async def script(session: Session) -> None:
            await session.welcome()
            await session.send(Denied("expired-key", "expired"))

        relay = FakeRelay(script)
        link = await log_in(relay)
        with pytest.raises(DeniedError, match="expired"):
            await link.wait()
        link.close()
        await relay.close()

    run(kind, main)


@on_both_loops
def test_a_relay_that_talks_all_the_time_is_told_that_we_live_as_well(kind: str) -> None:
    """It hears its own words from nobody: it counts the PINGs."""

    async def main() -> None:
        async def script(session: Session) -> None:
            await session.welcome(0.1)

            async def talk() -> None:
                while True:
                    await session.send(Pong())
                    await asyncio.sleep(0.005)

            talking = asyncio.create_task(talk())
            async with asyncio.timeout(5):
                assert isinstance(await session.receive(), Ping)
                assert isinstance(await session.receive(), Ping)
            talking.cancel()
            await session.send(Denied("enough", "enough"))

        relay = FakeRelay(script)
        link = await log_in(relay)
        with pytest.raises(DeniedError, match="enough"):
            await link.wait()
        link.close()
        await relay.close()
        assert relay.errors == []

    run(kind, main)


@on_both_loops
def test_a_silent_relay_is_given_up_after_three_heartbeats(kind: str) -> None:
    async def main() -> None:
        async def script(session: Session) -> None:
            await session.welcome(0.01)
            with contextlib.suppress(LinkLost):
                await forever(session)
            heard.extend(session.heard[2:])

        heard: list[object] = []
        relay = FakeRelay(script)
        link = await log_in(relay)
        with pytest.raises(LinkLost, match=r"the relay was silent for 0.03 s"):
            await link.wait()
        link.close()
        await until(lambda: heard, "the relay sees the end")
        assert heard == [Ping(), Ping()]
        await relay.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Welcome(2, 1, 1.0), "the relay chose version 2"),
        (Pong(), "PONG is not allowed on a link that is judged"),
        (Ready(), "READY is not allowed on a link that is judged"),
    ],
)
def test_another_answer_to_hello_is_a_protocol_error(
    kind: str, answer: Welcome | Pong | Ready, words: str
) -> None:
    async def main() -> None:
        async def script(session: Session) -> None:
            await session.greeting()
            await session.send(answer)
            with contextlib.suppress(PeerError):
                await forever(session)

        relay = FakeRelay(script)
        with pytest.raises(ProtocolError, match=words):
            await log_in(relay)
        await relay.close()

    run(kind, main)


@on_both_loops
def test_words_after_paired_are_a_protocol_error(kind: str) -> None:
    """They would be taken for the partner's."""

    async def main() -> None:
        async def script(session: Session) -> None:
            await session.welcome()
            await session.send(PAIRED, Pong())
            with contextlib.suppress(PeerError):
                await forever(session)

        relay = FakeRelay(script)
        link = await log_in(relay)
        assert await link.wait() == PAIRED
        with pytest.raises(ProtocolError, match="the relay sent more after its last word"):
            await link.hand_over()
        link.close()
        await relay.close()

    run(kind, main)


@on_both_loops
def test_whoever_is_silent_from_the_start_has_a_deadline(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOGIN_DEADLINE_S", 0.05)

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = HostPort(*listener.getsockname())
            with pytest.raises(LinkLost, match=rf"{address} did not answer within 0.05 s"):
                await login(address, new_client(), lambda: None)

    run(kind, main)


@on_both_loops
def test_what_is_no_relay_is_asked_after(kind: str) -> None:
    async def main() -> None:
        accepted: list[socket.socket] = []

        def answer(sock: socket.socket, _: HostPort) -> None:
            accepted.append(sock)
            sock.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        server = Listener(asyncio.get_running_loop(), listen("127.0.0.1", 0), answer)
        with pytest.raises(
            HandshakeError, match=f"; is {server.address} a relay-server of this suite"
        ):
            await login(server.address, new_client(), lambda: None)
        server.close()
        accepted[0].close()

    run(kind, main)
