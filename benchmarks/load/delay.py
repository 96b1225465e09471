"""A long way: ``python -m benchmarks.load.delay HOST PORT ONE_WAY_S LISTEN_HOST LISTEN_PORT``.

Whatever comes in goes out so many seconds later, in order, at any rate: nothing is held back but
by time. A new connection pays for TCP's handshake too: the client is told at once that it is
connected, but the far end is dialled three ways later, when a first segment could be there.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections import deque
from enum import Enum
from typing import Final, cast

from benchmarks.load.talk import Address

EARLY_S: Final = 0.0005
"""How much too early something may go out: the loop's timers have steps of a millisecond."""
HANDSHAKE_WAYS: Final = 3
"""SYN, SYN and ACK, ACK with the first bytes."""


_NO_LINGER: Final = struct.pack("ii", 1, 0)


class End(Enum):
    """What can come instead of bytes."""

    FIN = 1
    RST = 2


class Side(asyncio.Protocol):
    """One of two sockets: what its partner receives is sent here when its time has come."""

    def __init__(self, delay_s: float, partner: Side | None = None) -> None:
        self._delay_s = delay_s
        self._partner = partner or Side(delay_s, self)
        self._queue: deque[tuple[float, bytes | End]] = deque()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    @property
    def partner(self) -> Side:
        """The other side."""
        return self._partner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what is due; never ask anybody to wait."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Give it to the partner."""
        self._partner.enqueue(data)

    def eof_received(self) -> bool:
        """Pass it on; the other direction stays open."""
        self._ended = True
        self._partner.enqueue(End.FIN)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on an end that was none in order."""
        if exc is not None or not self._ended:
            self._ended = True
            self._partner.enqueue(End.RST)

    def enqueue(self, item: bytes | End) -> None:
        """Note what is to be sent once it has come so far."""
        self._queue.append((time.monotonic() + self._delay_s, item))
        if self._timer is None and self._transport is not None:
            self._flush()

    def refused(self) -> None:
        """The far end cannot be reached: so the near one hears."""
        self._partner.enqueue(End.RST)

    def _flush(self) -> None:
        self._timer = None
        transport = self._transport
        assert transport is not None
        while self._queue and self._queue[0][0] <= time.monotonic() + EARLY_S:
            item = self._queue.popleft()[1]
            if item is End.RST:
                self._ended = True
                transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER
                )
                transport.abort()
                self._queue.clear()
            elif transport.is_closing():
                continue
            elif item is End.FIN:
                transport.write_eof()
            else:
                transport.write(item)
        if self._queue:
            wait = self._queue[0][0] - time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(max(wait, 0), self._flush)


async def serve(far: Address, delay_s: float, listen: Address) -> None:
    """Say where it listens, and serve for ever."""
    loop = asyncio.get_running_loop()
    dials = set[asyncio.Task[None]]()

    async def dial(side: Side) -> None:
        await asyncio.sleep(HANDSHAKE_WAYS * delay_s)
        try:
            await loop.create_connection(lambda: side, *far)
        except OSError:
            side.refused()

    def accept() -> Side:
        side = Side(delay_s)
        task = loop.create_task(dial(side.partner))
        dials.add(task)
        task.add_done_callback(dials.discard)
        return side

    server = await loop.create_server(accept, *listen, backlog=4096)
    host, port = server.sockets[0].getsockname()
    print(f"delay ready {host}:{port}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Do what the command line says."""
    import uvloop

    host, port, delay_s, listen_host, listen_port = sys.argv[1:]
    listen = (listen_host, int(listen_port))
    uvloop.run(serve((host, int(port)), float(delay_s), listen))


if __name__ == "__main__":
    main()
