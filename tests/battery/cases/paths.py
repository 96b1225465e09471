"""A path that is slow, far or narrow: everything arrives, only later."""

from __future__ import annotations

import hashlib
import socket
import time

from tests.battery.bench import Battery, Chain
from tests.battery.registry import case
from tests.programs.ends import connected, download, together


def _there_and_back(chain: Chain, data: bytes) -> float:
    """Send ``data`` to the echo while it comes back; return the seconds that took."""
    begin = time.monotonic()
    with connected(chain.entrance, 120) as sock:

        def send() -> str:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            return hashlib.sha256(data).hexdigest()

        sent, received = together(send, lambda: download(sock))
    assert sent == received, "the bytes that came back are others"
    return time.monotonic() - begin


@case("paths: 25 ms each way, with jitter")
def far_away(battery: Battery) -> str:
    size = battery.size(quick=1 << 20, full=64 << 20)
    with battery.chain() as chain:
        for weather in (chain.near.up, chain.near.down):
            weather.delay_s, weather.jitter_s = 0.025, 0.005
        begin = time.monotonic()
        chain.check()
        first = time.monotonic() - begin
        assert first >= 0.05, "the path is not as far as it should be"
        seconds = _there_and_back(chain, battery.random.randbytes(size))
    figure = f"{size >> 20} MiB there and back in {seconds:.1f} s"
    return f"first answer after {first * 1000:.0f} ms, {figure}"


@case("paths: 1 MiB/s", quick=False)
def narrow(battery: Battery) -> str:
    size = battery.size(quick=1 << 20, full=32 << 20)
    with battery.chain() as chain:
        chain.far.up.rate = chain.far.down.rate = 1 << 20
        seconds = _there_and_back(chain, battery.random.randbytes(size))
        assert seconds > size / (2 << 20), "the path is not as narrow as it should be"
    return f"{size >> 20} MiB there and back in {seconds:.1f} s"
