"""Runs a coroutine on each kind of event loop, and waits for conditions instead of sleeping."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
import uvloop

T = TypeVar("T")

DEADLINE_S = 10.0
"""For anything that takes milliseconds on an idle machine."""

LOOPS = ("asyncio", "uvloop")
on_both_loops = pytest.mark.parametrize("kind", LOOPS)


def run(kind: str, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run ``main()``; an exception in a callback of the loop fails the test, as does a leak of
    descriptors."""
    errors: list[dict[str, Any]] = []

    async def watched() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: errors.append(context))
        before = descriptors()
        result = await main()
        await until(lambda: descriptors() <= before, "every descriptor is closed")
        return result

    factory = uvloop.new_event_loop if kind == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        result = runner.run(watched())
    assert not errors, errors
    return result


async def until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Let the loop run until ``condition`` holds; fail with ``what`` after the deadline."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    while not condition():
        assert loop.time() < end, f"not within {deadline_s:g} s: {what}"
        await asyncio.sleep(0.0005)


async def turns(count: int = 20) -> None:
    """Let the loop run for a few turns, for what must *not* happen."""
    for _ in range(count):
        await asyncio.sleep(0)


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))
