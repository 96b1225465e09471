"""How long a visitor's HTTP connection may take, state by state."""

from __future__ import annotations

import pytest

from relay_server.http.patience import (
    HEAD_S,
    IDLE_S,
    LEAVE_S,
    STALL_S,
    Overdue,
    overdue,
)
from relay_server.http.states import State

SOON = 0.01


def judged(
    state: State,
    spent_s: float = 0,
    *,
    begun: bool = False,
    draining: bool = False,
    unread_s: float = 0,
    untaken_s: float = 0,
) -> Overdue:
    return overdue(
        state, spent_s, begun=begun, draining=draining, unread_s=unread_s, untaken_s=untaken_s
    )


@pytest.mark.parametrize(
    ("begun", "limit_s", "due"), [(True, HEAD_S, Overdue.REFUSE), (False, IDLE_S, Overdue.LEAVE)]
)
def test_a_head_has_its_time(begun: bool, limit_s: float, due: Overdue) -> None:
    assert judged(State.HEAD, limit_s - SOON, begun=begun) is Overdue.NOTHING
    assert judged(State.HEAD, limit_s, begun=begun) is due


def test_last_words_have_their_time_and_are_not_cut_off_in_silence() -> None:
    assert judged(State.LEAVING, LEAVE_S - SOON) is Overdue.NOTHING
    assert judged(State.LEAVING, LEAVE_S) is Overdue.FINISH
    assert judged(State.LEAVING, IDLE_S - SOON, draining=True) is Overdue.NOTHING
    assert judged(State.LEAVING, IDLE_S, draining=True) is Overdue.ABORT


def test_a_body_may_last_as_long_as_it_moves() -> None:
    assert judged(State.BODY, 1e6, unread_s=STALL_S - SOON) is Overdue.NOTHING
    assert judged(State.BODY, unread_s=STALL_S) is Overdue.REFUSE


@pytest.mark.parametrize("state", [State.BODY, State.ANSWER])
def test_an_answer_may_last_as_long_as_it_is_taken(state: State) -> None:
    assert judged(state, 1e6, draining=True, untaken_s=STALL_S - SOON) is Overdue.NOTHING
    assert judged(state, draining=True, untaken_s=STALL_S) is Overdue.ABORT


def test_what_the_service_takes_its_time_for_has_no_limit() -> None:
    assert judged(State.ANSWER, 1e6, unread_s=1e6) is Overdue.NOTHING


@pytest.mark.parametrize("state", [State.TUNNEL, State.OVER])
def test_what_is_no_http_has_no_limit(state: State) -> None:
    assert judged(state, 1e6, draining=True, unread_s=1e6, untaken_s=1e6) is Overdue.NOTHING
