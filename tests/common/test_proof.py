from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

from common import frames
from common import proof as module
from common.channel import Channel
from common.proof import Proof
from common.session import Session
from tests.common.loops import on_both_loops, run, turns, until
from tests.common.sessions import opener_session

REQUEST = frames.encode_open(frames.Open("0", "tcp", "localhost", 80, "192.0.2.1", 4711))
PING, PONG = frames.encode(frames.PING), frames.encode(frames.PONG)


class Asked:
    """A channel that is asked for a sign of life, and the far end of it."""

    def __init__(self, near: Session, far: ssl.SSLSocket) -> None:
        self.far = far
        self.alive = 0
        self.dead: list[str] = []
        loop = asyncio.get_running_loop()
        self.channel = Channel(loop, near, self, 60)  # type: ignore[arg-type]
        self.proof = Proof(loop, self.channel, REQUEST, self._on_alive, self.dead.append)

    def _on_alive(self) -> None:
        self.alive += 1

    def heard(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._heard += self.far.recv(4096)
        return self._heard

    _heard = b""

    async def answer(self) -> None:
        await until(lambda: self.alive or self.dead, "an answer")
        await turns()
        assert self.alive + len(self.dead) == 1

    def close(self) -> None:
        self.channel.close()
        self.far.close()


async def asked() -> Asked:
    return Asked(*await opener_session())


@on_both_loops
def test_ping_and_open_go_out_together_and_the_pong_is_the_proof(kind: str) -> None:
    async def main() -> None:
        a = await asked()
        a.proof.ask()
        await until(lambda: a.heard() == PING + REQUEST, "PING and OPEN")
        a.far.send(frames.encode(frames.GOAWAY) + PONG)
        await a.answer()
        assert a.alive == 1
        assert a.channel.retired
        a.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize(
    "wire",
    [
        frames.encode(frames.DATA, b"x"),
        frames.encode(frames.FIN),
        frames.encode_refused(frames.Refused("x", "y")),
    ],
)
def test_anything_before_the_pong_is_death(kind: str, wire: bytes) -> None:
    async def main() -> None:
        a = await asked()
        a.proof.ask()
        a.far.send(wire + PONG)
        await a.answer()
        assert a.dead[0].endswith("is not allowed before the PONG that was asked for")
        a.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("before", [False, True])
def test_a_channel_that_ends_is_dead(kind: str, before: bool) -> None:
    async def main() -> None:
        a = await asked()
        if before:
            a.far.close()
            a.channel.pause()
            await turns()
        a.proof.ask()
        a.channel.resume()
        a.far.close()
        await a.answer()
        assert len(a.dead) == 1
        a.close()

    run(kind, main)


@on_both_loops
def test_silence_is_death(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROOF_DEADLINE_S", 0.01)

    async def main() -> None:
        a = await asked()
        a.proof.ask()
        await a.answer()
        assert a.dead == ["no sign of life within 0.01 s"]
        assert a.channel.closed
        a.close()

    run(kind, main)
