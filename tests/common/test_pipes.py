from __future__ import annotations

import os

import pytest

from common import pipes as module
from common.pipes import RESERVE, SPARE_PIPES, Pipes, can_splice
from tests.common.loops import descriptors

pytestmark = pytest.mark.skipif(not can_splice(), reason="no splice here")


def test_pipes_are_lent_and_used_again() -> None:
    before = descriptors()
    pipes = Pipes()
    assert descriptors() == before + 2 * RESERVE
    pipe = pipes.take()
    assert pipes.lent == 1
    assert not os.get_blocking(pipe[0])
    assert not os.get_blocking(pipe[1])
    assert not os.get_inheritable(pipe[0])
    pipes.give_back(pipe)
    assert pipes.take() == pipe
    pipes.give_back(pipe)
    pipes.close()
    assert (pipes.lent, descriptors()) == (0, before)


def test_a_burst_leaves_no_more_than_a_few_behind() -> None:
    before = descriptors()
    pipes = Pipes()
    lent = [pipes.take() for _ in range(SPARE_PIPES + 20)]
    assert len(set(lent)) == len(lent)
    for each in lent:
        pipes.give_back(each)
    assert descriptors() == before + 2 * SPARE_PIPES
    pipes.close()
    assert descriptors() == before


def test_a_pipe_with_bytes_in_it_is_never_lent_again() -> None:
    pipes = Pipes(reserve=False)
    pipe = pipes.take()
    os.write(pipe[1], b"somebody's")
    pipes.discard(pipe)
    fresh = pipes.take()
    with pytest.raises(BlockingIOError):
        os.read(fresh[0], 1)
    pipes.give_back(fresh)
    pipes.close()


def test_the_reserve_works_when_no_descriptor_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    pipes = Pipes()

    def none_left(_flags: int) -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(module.os, "pipe2", none_left)  # type: ignore[attr-defined]
    lent = [pipes.take() for _ in range(RESERVE)]
    with pytest.raises(OSError, match="Too many open files"):
        pipes.take()
    assert pipes.lent == RESERVE
    for each in lent:
        pipes.give_back(each)
    pipes.close()


def test_asking_leaves_nothing_open() -> None:
    before = descriptors()
    assert can_splice()
    assert descriptors() == before
