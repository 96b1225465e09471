"""One turn in each iteration of the loop, in order, and none is lost with who gave up."""

from __future__ import annotations

import asyncio

from relay_server.turns import Turns
from tests.common.loops import on_both_loops, run


@on_both_loops
def test_one_in_each_iteration_in_the_order_of_coming(kind: str) -> None:
    async def main() -> None:
        turns = Turns()
        taken: list[tuple[int, int]] = []
        iteration = 0

        async def caller(number: int) -> None:
            await turns.take()
            taken.append((number, iteration))

        callers = [asyncio.ensure_future(caller(number)) for number in range(20)]
        while not all(each.done() for each in callers):
            await asyncio.sleep(0)
            iteration += 1
        assert [number for number, _ in taken] == list(range(20))
        iterations = [each for _, each in taken]
        assert len(set(iterations)) == 20, "two in the same iteration"
        assert iterations[-1] <= 25, "iterations without a turn"

    run(kind, main)


@on_both_loops
def test_who_comes_alone_does_not_wait(kind: str) -> None:
    async def main() -> None:
        turns = Turns()
        for _ in range(3):
            taking = turns.take()
            try:
                taking.send(None)  # a step that does not end it would have to wait
            except StopIteration:
                pass
            else:
                raise AssertionError("it waits")
            for _ in range(2):
                await asyncio.sleep(0)

    run(kind, main)


@on_both_loops
def test_who_gives_up_costs_nobody_a_turn(kind: str) -> None:
    async def main() -> None:
        turns = Turns()
        callers = [asyncio.ensure_future(turns.take()) for _ in range(10)]
        await asyncio.sleep(0)
        for each in callers[2:9]:
            each.cancel()
        async with asyncio.timeout(5):
            results = await asyncio.gather(*callers, return_exceptions=True)
            await turns.take()
        assert results[:2] == [None, None]
        assert results[9] is None
        assert all(isinstance(each, asyncio.CancelledError) for each in results[2:9])

    run(kind, main)
