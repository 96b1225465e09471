"""Turns: what costs much and is not urgent is done once in a turn of the loop, not all at once.

A hundred strangers whose first bytes come together would keep the loop for 35 ms of handshakes, and
every stream of the relay would wait for it. One at a time, a stream waits for one of them.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Gives one caller a turn in each iteration of the loop, in the order of their coming."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._taken = False  # whether this iteration's turn is

    async def take(self) -> None:
        """Wait for a turn; there is no need to give it back."""
        loop = asyncio.get_running_loop()
        if not self._taken:
            self._taken = True
            loop.call_soon(self._next)
            return
        mine = loop.create_future()
        self._waiting.append(mine)
        await mine

    def _next(self) -> None:
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # or whoever waited has gone
                first.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._taken = False
