from __future__ import annotations

from typing import get_args

import pytest

from common.errors import ProtocolError
from common.link_states import TRANSITIONS, LinkState, State
from common.wire import (
    Denied,
    GoAway,
    Hello,
    Message,
    Paired,
    Ping,
    Pong,
    Ready,
    Trust,
    Welcome,
)

MESSAGES: dict[type, Message] = {
    Trust: Trust([]),
    Hello: Hello([1], "entry-point", "0", bytes(16)),
    Welcome: Welcome(1, 1, 1.0),
    Denied: Denied("", ""),
    Ping: Ping(),
    Pong: Pong(),
    GoAway: GoAway(),
    Paired: Paired(bytes(32), bytes(16), True, 0),
    Ready: Ready(),
}

# Written out a second time, by hand: from each state, what may be said and where it leads.
ALLOWED: dict[State, dict[type, State]] = {
    State.GREETING: {Trust: State.GREETING, Hello: State.JUDGED, Denied: State.CLOSED},
    State.JUDGED: {Welcome: State.PENDING, Denied: State.CLOSED},
    State.PENDING: {
        Ping: State.PENDING,
        Pong: State.PENDING,
        GoAway: State.PENDING,
        Denied: State.CLOSED,
        Paired: State.PAIRED,
    },
    State.PAIRED: {Ping: State.PAIRED, Ready: State.HANDED_OVER},
    State.HANDED_OVER: {},
    State.CLOSED: {},
}


def test_every_message_is_tried() -> None:
    assert set(MESSAGES) == set(get_args(Message))
    assert set(ALLOWED) == set(State)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kind", MESSAGES)
def test_the_table(state: State, kind: type) -> None:
    link = LinkState()
    link.state = state
    following = ALLOWED[state].get(kind)
    if following is not None:
        link.advance(MESSAGES[kind])
        assert link.state is following
        return
    with pytest.raises(ProtocolError) as caught:
        link.advance(MESSAGES[kind])
    assert str(caught.value) == (
        f"{kind.__name__.upper()} is not allowed on a link that is {state.value}"
    )
    assert link.state is state


def test_a_link_begins_with_the_greeting_and_every_state_can_be_reached() -> None:
    reached = {LinkState().state}
    for _ in State:
        reached |= {after for (before, _), after in TRANSITIONS.items() if before in reached}
    assert reached == set(State)
