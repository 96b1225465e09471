"""A look at a connection: one verdict, and every byte is still there."""

from __future__ import annotations

import asyncio
import socket
import struct
import time

import pytest

from common.sockets import listen
from relay_server.public import peek as module
from relay_server.public.first_bytes import MOST, Http, Other, Silent, Tls, Verdict
from relay_server.public.peek import Peek
from tests.common.loops import on_both_loops, run, turns, until
from tests.relay_server.test_first_bytes import hello, records

FAR_S = 60.0
NEAR_S = 0.05
REQUEST = b"GET / HTTP/1.1\r\n"


def connection() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a TCP connection: ours, not blocking, and the client's."""
    with listen("127.0.0.1", 0) as listening:
        client = socket.create_connection(listening.getsockname(), 5)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.setblocking(True)
        ours, _ = listening.accept()
    ours.setblocking(False)
    return ours, client


class Look:
    """A peek at a connection, its client, and the verdicts that came."""

    def __init__(self, silent_s: float = FAR_S, deadline_s: float = FAR_S) -> None:
        self.loop = asyncio.get_running_loop()
        self.ours, self.client = connection()
        self.verdicts: list[Verdict] = []
        self.peek = Peek(
            self.loop, self.ours, self.verdicts.append, silent_s=silent_s, deadline_s=deadline_s
        )

    async def verdict(self) -> Verdict:
        await until(lambda: self.verdicts, "a verdict")
        await turns()
        (verdict,) = self.verdicts
        return verdict

    @property
    def low_mark(self) -> int:
        return self.ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)

    async def sees(self, count: int) -> None:
        """Wait until a look has seen so many bytes and decided nothing."""
        await until(lambda: self.low_mark == count + 1, f"{count} bytes are seen")

    def close(self) -> None:
        assert self.low_mark == 1
        assert not self.loop.remove_reader(self.ours.fileno())
        self.ours.close()
        self.client.close()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@on_both_loops
def test_nothing_is_taken_and_nothing_is_said_from_within_start(kind: str) -> None:
    async def main() -> None:
        look = Look()
        look.client.sendall(REQUEST)
        await turns()
        look.peek.start()
        assert not look.verdicts
        assert await look.verdict() == Http()
        assert look.ours.recv(100) == REQUEST
        look.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (REQUEST, Http()),
        (hello("a.b"), Tls("a.b")),
        (b"SSH-2", Other()),
        (records(hello("a.b")[5:], [5, 100]), Tls("a.b")),
    ],
    ids=["http", "tls", "ssh", "records"],
)
def test_bytes_that_come_in_pieces(kind: str, data: bytes, verdict: Verdict) -> None:
    async def main() -> None:
        look = Look()
        look.peek.start()
        step = 1 if len(data) < 20 else 40
        ends = [*range(step, len(data), step)]
        for end in ends[: module.PROMPT_LOOKS - 1]:
            look.client.sendall(data[end - step : end])
            await look.sees(end)
        look.client.sendall(data[min(len(ends), module.PROMPT_LOOKS - 1) * step :])
        assert await look.verdict() == verdict
        assert look.ours.recv(2 * len(data)) == data
        look.close()

    run(kind, main)


@on_both_loops
def test_waiting_for_more_costs_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def counted(data: bytes, *, ended: bool) -> Verdict | None:
        nonlocal looks
        looks += 1
        return None

    async def main() -> None:
        monkeypatch.setattr(module, "classify", counted)
        look = Look(deadline_s=10 * NEAR_S)
        look.peek.start()
        look.client.sendall(b"GET")
        assert await look.verdict() == Other()
        assert looks == 1
        look.close()

    run(kind, main)


@on_both_loops
def test_who_sends_byte_by_byte_is_not_looked_at_each_time(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def watched(data: bytes, *, ended: bool) -> Verdict | None:
        seen.append(len(data))
        return Http() if len(data) == len(text) else None

    text = b"a" * 300

    async def main() -> None:
        monkeypatch.setattr(module, "classify", watched)
        monkeypatch.setattr(module, "PAUSE_S", NEAR_S)
        look = Look()
        look.peek.start()
        for at in range(module.PROMPT_LOOKS):
            look.client.sendall(text[at : at + 1])
            await look.sees(at + 1)
        for at in range(module.PROMPT_LOOKS, len(text)):
            look.client.sendall(text[at : at + 1])
            await turns(3)
        assert await look.verdict() == Http()
        assert len(seen) < 2 * module.PROMPT_LOOKS
        assert look.ours.recv(1000) == text
        look.close()

    run(kind, main)


@on_both_loops
def test_a_client_that_says_nothing(kind: str) -> None:
    async def main() -> None:
        look = Look(silent_s=NEAR_S)
        began = look.loop.time()
        look.peek.start()
        assert await look.verdict() == Silent()
        assert look.loop.time() - began >= NEAR_S - 0.01
        look.client.sendall(b"late")
        await until(lambda: look.ours.recv(10, socket.MSG_PEEK), "late bytes")
        look.close()

    run(kind, main)


@on_both_loops
def test_who_spoke_while_the_loop_was_held_up_is_not_silent(kind: str) -> None:
    async def main() -> None:
        look = Look(silent_s=NEAR_S)
        look.peek.start()
        await turns()
        look.client.sendall(REQUEST)
        end = time.perf_counter() + 2 * NEAR_S
        while time.perf_counter() < end:
            pass
        assert await look.verdict() == Http()
        look.close()

    run(kind, main)


@on_both_loops
def test_a_client_that_has_begun_is_not_silent(kind: str) -> None:
    async def main() -> None:
        look = Look(silent_s=2 * NEAR_S, deadline_s=5 * NEAR_S)
        look.peek.start()
        look.client.sendall(b"GET /")
        assert await look.verdict() == Other()
        assert look.ours.recv(100) == b"GET /"
        look.close()

    run(kind, main)


@on_both_loops
def test_silence_up_to_the_deadline_is_silence(kind: str) -> None:
    async def main() -> None:
        look = Look(deadline_s=NEAR_S)
        look.peek.start()
        assert await look.verdict() == Silent()
        look.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize(
    ("data", "verdict"), [(b"", Silent()), (b"GET /", Other()), (REQUEST, Http())]
)
@pytest.mark.parametrize("together", [True, False])
def test_a_client_that_ends_early_is_judged_at_once(
    kind: str, data: bytes, verdict: Verdict, together: bool
) -> None:
    async def main() -> None:
        look = Look()
        look.client.sendall(data)
        if together:
            look.client.shutdown(socket.SHUT_WR)
        look.peek.start()
        if not together:
            if verdict == Other():
                await look.sees(len(data))
            look.client.shutdown(socket.SHUT_WR)
        assert await look.verdict() == verdict
        await until(lambda: look.ours.recv(100) == b"" or not data, "the end is still there")
        look.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("data", [b"", b"GET /"])
def test_a_client_that_resets(kind: str, data: bytes) -> None:
    async def main() -> None:
        look = Look()
        look.peek.start()
        if data:
            look.client.sendall(data)
            await look.sees(len(data))
        reset(look.client)
        assert await look.verdict() in (Silent(), Other())
        look.close()

    run(kind, main)


@on_both_loops
def test_as_many_bytes_as_are_looked_at(kind: str) -> None:
    async def main() -> None:
        look = Look()
        look.peek.start()
        look.client.sendall(b"GET /" + b"a" * (MOST - 6))
        await look.sees(MOST - 1)
        look.client.sendall(b"a")
        assert await look.verdict() == Other()
        look.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("when", ["before the start", "silent", "begun", "put off"])
def test_a_cancelled_look_says_nothing_and_closes(
    kind: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr(module, "PAUSE_S", NEAR_S)
        if when == "put off":
            monkeypatch.setattr(module, "PROMPT_LOOKS", 1)
        look = Look(silent_s=2 * NEAR_S, deadline_s=2 * NEAR_S)
        if when != "before the start":
            look.peek.start()
        if when in ("begun", "put off"):
            look.client.sendall(b"GET")
            await look.sees(3)
        look.peek.cancel()
        assert look.ours.fileno() < 0
        end = look.loop.time() + 4 * NEAR_S
        await until(lambda: look.loop.time() > end, "all timers would have gone off")
        assert not look.verdicts
        look.client.close()

    run(kind, main)
