from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from common import name_lookup
from common.name_lookup import look_up
from tests.common.loops import on_both_loops, run, turns

V4, V6, BOTH = socket.AF_INET, socket.AF_INET6, socket.AF_UNSPEC
NOTHING = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
LATER = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def info(address: str) -> name_lookup.AddressInfo:
    family = V6 if ":" in address else V4
    return (family, socket.SOCK_STREAM, 6, "", (address, 443))


class NameService:
    """A loop whose questions are answered as told; without an answer they wait.

    Attributes:
        asked: the family of each question, in order.
    """

    def __init__(self, answers: dict[int, list[str] | Exception]) -> None:
        self.asked: list[int] = []
        self._answers = answers
        self._loop = asyncio.get_running_loop()
        self.silent = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def run_in_executor(
        self, _threads: object, question: functools.partial[Any]
    ) -> list[Any]:
        assert question.args == (b"relay.example", 443)
        family = question.keywords["family"]
        self.asked.append(family)
        if family not in self._answers:
            await self.silent.wait()
        answer = self._answers.get(family, NOTHING)
        if isinstance(answer, Exception):
            raise answer
        return [info(each) for each in answer]

    async def look_up(self) -> list[str]:
        found = await look_up(self, b"relay.example", 443)  # type: ignore[arg-type]
        return [each[4][0] for each in found]


@on_both_loops
def test_the_real_thing(kind: str) -> None:
    async def main() -> None:
        found = await look_up(asyncio.get_running_loop(), b"127.0.0.1", 443)
        assert [each[4] for each in found] == [("127.0.0.1", 443)]

    run(kind, main)


def ask(
    kind: str,
    answers: dict[int, list[str] | Exception],
    main: Callable[[NameService], Awaitable[None]],
) -> None:
    async def with_service() -> None:
        await main(NameService(answers))

    run(kind, with_service)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_lookup, "PATIENCE_S", 0.01)


@on_both_loops
def test_what_works_is_asked_once_and_keeps_its_order(kind: str) -> None:
    async def main(names: NameService) -> None:
        assert await names.look_up() == ["192.0.2.1", "2001:db8::1"]
        assert names.asked == [BOTH]
        assert await names.look_up() == ["192.0.2.1", "2001:db8::1"]
        assert names.asked == [BOTH, BOTH]  # nothing is kept

    ask(kind, {BOTH: ["192.0.2.1", "2001:db8::1"]}, main)


@on_both_loops
@pytest.mark.parametrize(("family", "address"), [(V4, "192.0.2.1"), (V6, "2001:db8::1")])
def test_a_family_without_an_answer_does_not_hold_up_the_other(
    kind: str, family: int, address: str
) -> None:
    async def main(names: NameService) -> None:
        assert await names.look_up() == [address]
        assert sorted(names.asked) == sorted([BOTH, V4, V6])

    ask(kind, {family: [address]}, main)


@on_both_loops
def test_both_families_are_taken_if_both_answer_by_themselves(kind: str) -> None:
    async def main(names: NameService) -> None:
        assert await names.look_up() == ["2001:db8::1", "192.0.2.1"]

    ask(kind, {V4: ["192.0.2.1"], V6: ["2001:db8::1"]}, main)


@on_both_loops
@pytest.mark.parametrize("late", [False, True])
def test_no_answer_but_failures_is_the_failure_of_both(kind: str, late: bool) -> None:
    async def main(names: NameService) -> None:
        if late:
            asyncio.get_running_loop().call_later(0.05, names.silent.set)
        with pytest.raises(socket.gaierror) as error:
            await names.look_up()
        assert error.value.strerror == (NOTHING if late else LATER).strerror

    ask(kind, {V4: LATER, V6: LATER} if late else {BOTH: LATER}, main)


@on_both_loops
def test_a_late_answer_to_the_first_question_counts(kind: str) -> None:
    async def main(names: NameService) -> None:
        lookup = asyncio.ensure_future(names.look_up())
        while len(names.asked) < 3:
            await turns()
        names._answers[BOTH] = ["192.0.2.7"]
        names.silent.set()
        assert await lookup == ["192.0.2.7"]

    ask(kind, {V4: NOTHING, V6: NOTHING}, main)


@on_both_loops
def test_whoever_asks_the_same_joins_the_question(kind: str) -> None:
    async def main(names: NameService) -> None:
        for _ in range(3):  # each gives up, and the question goes on
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(names.look_up(), 0.05)
        lookups = [asyncio.ensure_future(names.look_up()) for _ in range(5)]
        await turns()
        assert sorted(names.asked) == sorted([BOTH, V4, V6])
        for each in (BOTH, V4, V6):
            names._answers[each] = ["192.0.2.1"]
        names.silent.set()
        assert {tuple(each) for each in await asyncio.gather(*lookups)} <= {
            ("192.0.2.1",),
            ("192.0.2.1", "192.0.2.1"),
        }

    ask(kind, {}, main)


@on_both_loops
def test_a_question_that_was_given_up_may_fail_in_silence(kind: str) -> None:
    async def main(names: NameService) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(names.look_up(), 0.05)
        names.silent.set()
        while name_lookup._asked:
            await turns()

    ask(kind, {}, main)  # tests.common.loops fails for what the loop complains about
