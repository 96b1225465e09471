"""An acceptor whose channels a test hands in, with raw frames at their far ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

import pytest

from common import frames
from common.addresses import HostPort
from common.client import Partners
from common.frames import FrameReader, Open
from common.joined import Joined
from common.key_options import KeyOptions
from common.outcome import Outcome
from common.pool import PoolSize
from common.refusals import Refusal
from common.tls import acceptor_context
from common.trusted_keys import TrustedKey
from reverse_proxy.acceptor import Acceptor
from reverse_proxy.informing import Informer
from reverse_proxy.metrics import Metrics
from reverse_proxy.policy import Policy
from reverse_proxy.visitors_file import VisitorsFile
from tests.common.fake_relay import new_client
from tests.common.loops import on_both_loops, run, turns, until
from tests.common.sessions import ANN, BOB, acceptor_session

FIN, PING = frames.encode(frames.FIN), frames.encode(frames.PING)


class Trusts:
    """Everybody, until told otherwise."""

    def __init__(self) -> None:
        self.all = True

    def get(self, key: bytes) -> TrustedKey | None:
        return TrustedKey(ANN.public, KeyOptions(), "keys.txt", 1) if self.all else None


class Opener:
    """The opener's end of one channel."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self.tls = tls
        self._reader = FrameReader()
        self.frames: list[tuple[int, bytes]] = []
        self.ended = False

    @property
    def kinds(self) -> list[int]:
        self.read()
        return [kind for kind, _ in self.frames]

    @property
    def data(self) -> bytes:
        self.read()
        return b"".join(payload for kind, payload in self.frames if kind == frames.DATA)

    def refusal(self) -> frames.Refused:
        self.read()
        (payload,) = (payload for kind, payload in self.frames if kind == frames.REFUSED)
        return frames.decode_refused(payload)

    def read(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            while not self.ended:
                piece = b""
                with contextlib.suppress(ConnectionResetError):
                    piece = self.tls.read(1 << 16)
                self.ended = not piece
                view, position, kind = memoryview(piece), 0, 1
                while piece and kind:
                    kind, payload, position = self._reader.next(view, position)
                    if kind:
                        self.frames.append((kind, bytes(payload)))


class Bench:
    def __init__(self, policy: Policy | None = None) -> None:
        self.metrics = Metrics()
        self.trusts = Trusts()
        self.acceptor = Acceptor(
            [HostPort("127.0.0.1", 1)],
            new_client("reverse-proxy"),
            acceptor_context(BOB),
            size=PoolSize(2, 8),
            linger_s=60,
            policy=policy or Policy(),
            partners=cast("Partners", self.trusts),
            informer=Informer(VisitorsFile("/nonexistent")),
            metrics=self.metrics,
        )
        self.relay = self.acceptor.relays[0]
        self.openers: list[Opener] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.port: int = self.listener.getsockname()[1]

    async def join(self) -> Opener:
        far, near = await acceptor_session()
        self.openers.append(Opener(far))
        self.acceptor._on_joined(self.relay, Joined(near, ANN.public.raw, bytes(16), 60))
        return self.openers[-1]

    def request(self, host: str = "127.0.0.1", group: str = "0", port: int = 0) -> bytes:
        return frames.encode_open(Open(group, "tcp", host, port or self.port, "192.0.2.1", 4711))

    async def accepted(self) -> socket.socket:
        await until(self._accepts, "the destination is dialled")
        sock = self._accepted
        sock.setblocking(False)
        return sock

    def _accepts(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            self._accepted, _ = self.listener.accept()
            return True
        return False

    async def close(self) -> None:
        self.acceptor.stop()
        self.acceptor.abort()
        await asyncio.wait_for(self.acceptor.quiet(), 5)
        await turns()
        assert self.acceptor.channels == 0
        assert self.metrics.channels_opened == self.metrics.channels_closed
        for each in self.openers:
            each.tls.close()
        self.listener.close()


def got(sock: socket.socket, expected: bytes) -> Callable[[], bool]:
    seen = bytearray()

    def check() -> bool:
        with contextlib.suppress(BlockingIOError):
            seen.extend(sock.recv(1 << 16))
        return seen == expected

    return check


@on_both_loops
def test_streams_one_after_the_other(kind: str) -> None:
    """What came behind OPEN waits for the destination; the next OPEN may be in the same read."""

    async def main() -> None:
        b = Bench()
        opener = await b.join()
        one = b.request() + frames.encode(frames.DATA, b"first") + FIN
        opener.tls.write(one)
        first = await b.accepted()
        await until(got(first, b"first"), "the bytes behind OPEN")
        first.send(b"answer")
        first.close()
        await until(lambda: opener.kinds[-2:] == [frames.FIN, frames.DONE], "answered")
        assert opener.data == b"answer"
        opener.tls.write(one + PING)
        second = await b.accepted()
        await until(got(second, b"first"), "again")
        second.close()
        await until(lambda: opener.kinds.count(frames.FIN) == 2, "ended")
        assert b.metrics.streams_finished == 2
        assert (b.metrics.bytes_sent, b.metrics.bytes_received) == (6, 10)
        await b.close()

    run(kind, main)


@on_both_loops
def test_done_waits_until_a_stalled_destination_has_taken_everything(kind: str) -> None:
    """Or the next stream of the channel would wait behind the one that stalls."""

    async def main() -> None:
        b = Bench()
        opener = await b.join()
        opener.tls.write(b.request())
        far = await b.accepted()
        far.shutdown(socket.SHUT_WR)
        await until(lambda: opener.kinds[-1:] == [frames.FIN], "the destination has said all")
        size = 32 << 20  # more than every buffer on the way takes
        tail = frames.header(frames.DATA, size // 4) + bytes(size // 4)
        wire = memoryview(tail * 4 + FIN)
        taken = 0

        def push() -> bool:
            nonlocal wire
            with contextlib.suppress(ssl.SSLWantWriteError):
                while wire:
                    wire = wire[opener.tls.write(wire[: 1 << 14]) :]
            return not wire

        def stuck() -> bool:
            before = len(wire)
            push()
            return len(wire) == before

        await until(stuck, "nothing more goes in")
        await turns()
        assert opener.kinds[-1] == frames.FIN

        def take() -> bool:
            nonlocal taken
            push()
            with contextlib.suppress(BlockingIOError):
                while piece := far.recv(1 << 20):
                    taken += len(piece)
                return True
            return False

        await until(take, "the end arrives at the destination")
        assert taken == size
        await until(lambda: opener.kinds[-1:] == [frames.DONE], "DONE")
        far.close()
        await b.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("closed port", "unreachable"),
        ("not permitted", "not-permitted"),
        ("guarded", "guarded-address"),
        ("no such zone", "unreachable"),
        ("no name", "unresolved"),
        ("group", "wrong-group"),
        ("expired", "expired-key"),
    ],
)
def test_a_refusal_and_then_the_next_stream(kind: str, case: str, code: str) -> None:
    async def main() -> None:
        b = Bench(Policy.from_list(["127.0.0.1"]) if case == "not permitted" else None)
        opener = await b.join()
        with socket.create_server(("127.0.0.1", 0)) as gone:
            unused = gone.getsockname()[1]
        b.trusts.all = case != "expired"
        request = {
            "closed port": b.request(port=unused),
            "not permitted": b.request("127.0.0.2"),
            "guarded": b.request("169.254.169.254"),
            "no such zone": b.request("::1%no-such-zone"),
            "no name": b.request("a b\0"),
            "group": b.request(group="1"),
            "expired": b.request(),
        }[case]
        opener.tls.write(request + frames.encode(frames.DATA, b"sent too early") + FIN)
        await until(lambda: frames.REFUSED in opener.kinds, "refused")
        assert opener.refusal().code == code
        b.trusts.all = True
        opener.tls.write(b.request())
        (await b.accepted()).close()
        assert b.metrics.streams_refused == 1
        await b.close()

    run(kind, main)


@on_both_loops
def test_a_channel_lost_while_dialling_leaves_nothing(kind: str) -> None:
    async def main() -> None:
        b = Bench()

        async def never(*_: object, **__: object) -> list[Any]:
            await asyncio.Event().wait()
            return []

        opener = await b.join()
        (desk,) = b.relay.desks
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("reverse_proxy.dialler.Dial._resolve", never)
            opener.tls.write(b.request("slow.example") + frames.encode(frames.RESET))
            await until(lambda: desk.busy, "dialling")
            desk.channel.lose("the network is gone")
        await turns()
        assert b.acceptor.channels == 0
        await b.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize(
    "wire",
    [
        frames.encode(frames.DATA, b"x"),
        FIN,
        frames.encode(frames.RESET),
        frames.encode(frames.OPEN, b"\xc0"),
        frames.encode(frames.GOAWAY),
    ],
)
def test_what_is_not_allowed_on_an_idle_channel_ends_it(kind: str, wire: bytes) -> None:
    async def main() -> None:
        b = Bench()
        opener = await b.join()
        opener.tls.write(wire)
        await until(lambda: b.acceptor.channels == 0, "ended")
        await until(lambda: opener.kinds == [] and opener.ended, "seen")
        await b.close()

    run(kind, main)


@on_both_loops
def test_a_reset_after_a_refusal_ends_the_channel(kind: str) -> None:
    async def main() -> None:
        b = Bench()
        opener = await b.join()
        opener.tls.write(b.request(group="1") + frames.encode(frames.RESET))
        await until(lambda: b.acceptor.channels == 0, "ended")
        await b.close()

    run(kind, main)


@on_both_loops
def test_a_stop_asks_openers_to_leave_and_waits_for_them(kind: str) -> None:
    async def main() -> None:
        b = Bench()
        idle, busy = await b.join(), await b.join()
        busy.tls.write(b.request())
        destination = await b.accepted()
        b.acceptor.stop()
        await until(lambda: frames.GOAWAY in idle.kinds and frames.GOAWAY in busy.kinds, "asked")
        quiet = asyncio.create_task(b.acceptor.quiet())
        idle.tls.close()
        busy.tls.write(frames.encode(frames.DATA, b"to the end") + FIN)
        await until(got(destination, b"to the end"), "served to the end")
        assert not quiet.done()
        destination.close()
        await until(lambda: frames.FIN in busy.kinds, "finished")
        busy.tls.close()
        await asyncio.wait_for(quiet, 5)
        assert b.metrics.streams_finished == 1
        await b.close()

    run(kind, main)


@on_both_loops
def test_an_abort_resets_destinations(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        b = Bench()
        opener = await b.join()
        opener.tls.write(b.request())
        destination = await b.accepted()
        await until(lambda: next(iter(b.relay.desks)).stream, "served")
        await b.close()
        with pytest.raises(ConnectionResetError):
            destination.recv(1)
        destination.close()
        assert any(Outcome.STOPPED in str(vars(each)) for each in caplog.records)

    run(kind, main)


def test_links_follow_the_backlog_and_the_limit() -> None:
    async def main() -> None:
        b = Bench()
        assert b.acceptor._wanted(b.relay, 0) == 2
        b.acceptor._on_backlog(b.relay, 5)
        assert b.acceptor._wanted(b.relay, 0) == 5  # it lingers
        for _ in range(6):
            await b.join()
        assert b.acceptor._wanted(b.relay, 0) == 2
        await b.close()

    run("asyncio", main)


def test_a_refusal_s_words_reach_the_opener_however_long_they_are() -> None:
    async def main() -> None:
        b = Bench()
        opener = await b.join()
        (desk,) = b.relay.desks
        desk._refuse(Refusal("not-permitted", "\N{SNOWMAN}" * 5000))
        await until(lambda: frames.REFUSED in opener.kinds, "refused")
        assert opener.refusal().detail.startswith("\N{SNOWMAN}" * 100)
        await b.close()

    run("asyncio", main)
