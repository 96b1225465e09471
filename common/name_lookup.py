"""Names to addresses, by way of the C library: no question twice at once, no family held up.

A name server that answers for one address family and says nothing about the other makes
``getaddrinfo`` wait longer than anybody here does (15 s with glibc's defaults and one server, when
measured), although the answer is there. So if it takes long, each family is asked for by itself. A
question that nobody waits for any more still holds a thread: whoever asks the same joins it, and
the threads are our own, for uvloop has two of them for this.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

PATIENCE_S: Final = 2.0
"""Seconds until the families are asked for one by one; what works answers much sooner."""
OTHER_FAMILY_S: Final = 0.05
"""Seconds that the family which has answered waits for the other one (RFC 8305, section 3)."""
MOST_QUESTIONS: Final = 32
"""Questions at once; more wait for their turn. A thread is made when it is needed."""

AddressInfo = tuple[Any, Any, int, str, Any]
"""As ``getaddrinfo`` returns it."""
_Key = tuple[asyncio.AbstractEventLoop, bytes, int, int]
_Answer = asyncio.Task[list[AddressInfo]]

_asked: Final[dict[_Key, _Answer]] = {}


async def look_up(loop: asyncio.AbstractEventLoop, host: bytes, port: int) -> list[AddressInfo]:
    """Return the addresses of an ASCII name (or address), best first; deadlines are the caller's.

    Raises:
        OSError: there are none; ``strerror`` says why.
    """
    both = _ask(loop, host, port, socket.AF_UNSPEC)
    await asyncio.wait([both], timeout=PATIENCE_S)
    if not both.done():
        families = [_ask(loop, host, port, each) for each in (socket.AF_INET6, socket.AF_INET)]
        waiting = {both, *families}
        while waiting and not _found(both):
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(map(_found, families)):
                await asyncio.wait(families, timeout=OTHER_FAMILY_S)
                return [info for each in families if _found(each) for info in each.result()]
    return list(both.result())


def _found(answer: _Answer) -> bool:
    return answer.done() and not answer.exception()


def _ask(loop: asyncio.AbstractEventLoop, host: bytes, port: int, family: int) -> _Answer:
    key = (loop, host, port, family)
    if key not in _asked:
        question = functools.partial(
            socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM
        )
        _asked[key] = task = loop.create_task(_until_answered(loop, question))
        task.add_done_callback(lambda task: _forget(key, task))
    return _asked[key]


async def _until_answered(
    loop: asyncio.AbstractEventLoop, question: Callable[[], list[AddressInfo]]
) -> list[AddressInfo]:
    return await loop.run_in_executor(_threads(), question)


@functools.cache
def _threads() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # a relay never needs it

    return ThreadPoolExecutor(MOST_QUESTIONS, "name lookup")


def _forget(key: _Key, answer: _Answer) -> None:
    del _asked[key]
    if not answer.cancelled():
        answer.exception()  # or the loop would complain about a failure that nobody waited for
