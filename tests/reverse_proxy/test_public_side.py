"""One relay's visitors at the reverse-proxy: as many links as are needed, within the limit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from common.addresses import HostPort
from common.exposure_grammar import parse_exposures
from common.forwarding import choose_forwarder
from common.pool import PoolSize
from common.wire import Demand, Expose, Exposed, Purpose, Unexposed
from reverse_proxy import exposer as exposer_module
from reverse_proxy.informing import Informer
from reverse_proxy.metrics import Metrics
from reverse_proxy.public_side import PublicSide
from reverse_proxy.visitors_file import VisitorsFile
from tests.common.fake_relay import FakeRelay, Session, new_client
from tests.common.loops import on_both_loops, run, turns, until

LIMIT = 12


class Bench:
    """A public side, and a relay that grants what it is asked for."""

    def __init__(self, folder: Path, *texts: str) -> None:
        self.metrics = Metrics()
        self.make, self.pipes = choose_forwarder("copy", asyncio.get_running_loop(), self.metrics)
        self.here: Counter[Purpose] = Counter()
        self.control: Session | None = None
        self.grants = True
        self.relay = FakeRelay(self._serve)
        self.side = PublicSide(
            self.relay.address,
            new_client("reverse-proxy"),
            dict(enumerate(parse_exposures(texts), start=1)),
            hold_s=0.0,
            size=PoolSize(2, LIMIT),
            linger_s=0.0,
            informer=Informer(VisitorsFile(str(folder / "visitors.json"))),
            make_forwarder=self.make,
            metrics=self.metrics,
        )

    async def _serve(self, session: Session) -> None:
        purpose = (await session.welcome()).purpose
        self.here[purpose] += 1
        try:
            if purpose == "exposures":
                self.control = session
                while True:
                    asked = await session.receive()
                    if isinstance(asked, Expose):
                        await session.send(self._answer(asked))
            await asyncio.Event().wait()
        finally:
            self.here[purpose] -= 1

    def _answer(self, asked: Expose) -> Exposed | Unexposed:
        if self.grants:
            return Exposed(asked.id, asked.port or 4711, f":{asked.port or 4711}")
        return Unexposed(asked.id, "held", "of another")

    async def demand(self, visitors: int, raw: int = 0) -> None:
        assert self.control is not None
        await self.control.send(Demand(visitors, raw))


def played(kind: str, bench: Callable[[], Bench], play: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        stage = bench()
        running = asyncio.create_task(stage.side.run())
        try:
            await play(stage)
            assert not running.done()
        finally:
            stage.side.stop()
            stage.side.abort()
            await stage.side.quiet()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await stage.relay.close()
            stage.pipes.close()

    run(kind, main)


@on_both_loops
def test_links_are_kept_for_what_is_public_alone(kind: str, tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        await until(lambda: bench.here["visitors"] == 2, "channels are ready")
        assert bench.here["raw"] == 0
        host = bench.relay.address.host
        assert bench.side.public() == [f"{host}:80 -> {HostPort('127.0.0.1', 8080)}"]

    played(kind, lambda: Bench(tmp_path, "80:8080"), play)


@on_both_loops
def test_raw_exposures_have_raw_links(kind: str, tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        await until(lambda: bench.here["raw"] == 2, "raw links are ready")
        assert bench.here["visitors"] == 0

    played(kind, lambda: Bench(tmp_path, "443:8443,raw"), play)


@on_both_loops
def test_what_the_relay_refuses_needs_no_links(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposer_module, "RETRY_S", 0.02)

    def refusing() -> Bench:
        bench = Bench(tmp_path, "80:8080")
        bench.grants = False
        return bench

    async def play(bench: Bench) -> None:
        await until(bench.side.exposer.answered.is_set, "it is answered")
        await turns(50)
        assert bench.here == {"exposures": 1}
        assert bench.side.public() == []
        bench.grants = True  # it is asked for again
        await until(lambda: bench.here["visitors"] == 2, "channels are ready")

    played(kind, refusing, play)


@on_both_loops
def test_a_relay_that_wants_any_number_gets_the_limit(kind: str, tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        await until(lambda: bench.here["visitors"] == 2, "channels are ready")
        for number in (2**31, 5, 2**31, 2**31 - 1):
            await bench.demand(number, number)
        raw = bench.side._raw_links
        await until(lambda: bench.side.channels == LIMIT, "as many as may be")
        await until(lambda: len(raw._pending) == LIMIT, "as many as may be")
        await turns(100)
        assert bench.side.channels == LIMIT
        assert raw.links == LIMIT

    played(kind, lambda: Bench(tmp_path, "80:8080", "443:8443,raw"), play)


@on_both_loops
def test_the_end_leaves_no_channel(kind: str, tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        await until(lambda: bench.side.channels == 2, "channels are ready")
        bench.side.stop()
        bench.side.abort()
        await bench.side.quiet()
        assert bench.side.channels == 0
        assert bench.metrics.channels_opened == bench.metrics.channels_closed == 2

    played(kind, lambda: Bench(tmp_path, "80:8080"), play)
