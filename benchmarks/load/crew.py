"""Several processes that work at the same time and hand their figures back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

START_S: Final = 0.02
"""Seconds until all begin together: forking takes less."""


def work_together(count: int, work: Callable[[int, float], Sequence[float]]) -> list[list[float]]:
    """Return what ``work(number, begin)`` returns in each of ``count`` processes.

    Args:
        work: gets its number, and the ``perf_counter`` at which all begin.

    Raises:
        SystemExit: one of them has failed; it says why.
    """
    begin = time.perf_counter() + START_S
    pipes = []
    for number in range(count):
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.close(reading)
            _answer(work, number, begin, writing)
        os.close(writing)
        pipes.append(reading)
    answers = []
    for each in pipes:
        with open(each, "rb") as pipe:
            answers.append(pipe.read())
    for _ in range(count):
        os.wait()
    done = [json.loads(each or '"a worker has died"') for each in answers]
    for each in done:
        if isinstance(each, str):
            raise SystemExit(each)
    return done


def wait_until(begin: float) -> None:
    """Sleep until the ``perf_counter`` says ``begin``."""
    time.sleep(max(begin - time.perf_counter(), 0))


def _answer(
    work: Callable[[int, float], Sequence[float]], number: int, begin: float, writing: int
) -> NoReturn:
    try:
        answer: Sequence[float] | str = work(number, begin)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is the answer
        answer = f"{type(error).__name__}: {error}"
    with open(writing, "w") as pipe:
        json.dump(answer, pipe)
    os._exit(0)
