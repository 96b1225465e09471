from __future__ import annotations

from typing import get_args

import pytest

from common.errors import ProtocolError
from common.link_states import TRANSITIONS, WELCOMED, LinkState, State
from common.wire import (
    Declined,
    Demand,
    Denied,
    Expose,
    Exposed,
    GoAway,
    Hello,
    Message,
    Paired,
    Ping,
    Pong,
    Purpose,
    Ready,
    Trust,
    Unexposed,
    Visit,
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
    Expose: Expose(1, "tcp", "", 80),
    Exposed: Exposed(1, 80, ""),
    Unexposed: Unexposed(1, "", ""),
    Demand: Demand(0, 0),
    Visit: Visit(1, "", 0, "", 0),
    Declined: Declined("", ""),
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
    State.EXPOSING: {
        Expose: State.EXPOSING,
        Exposed: State.EXPOSING,
        Unexposed: State.EXPOSING,
        Demand: State.EXPOSING,
        Ping: State.EXPOSING,
        Pong: State.EXPOSING,
        GoAway: State.EXPOSING,
        Denied: State.CLOSED,
    },
    State.CHANNEL: {},
    State.WAITING: {
        Ping: State.WAITING,
        Pong: State.WAITING,
        GoAway: State.WAITING,
        Denied: State.CLOSED,
        Visit: State.VISITED,
    },
    State.VISITED: {
        Ping: State.VISITED,
        Ready: State.HANDED_OVER,
        Declined: State.CLOSED,
    },
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


@pytest.mark.parametrize(
    ("purpose", "welcomed"),
    [
        ("pair", State.PENDING),
        ("exposures", State.EXPOSING),
        ("visitors", State.CHANNEL),
        ("raw", State.WAITING),
    ],
)
def test_welcome_leads_where_the_purpose_says(purpose: Purpose, welcomed: State) -> None:
    link = LinkState()
    link.advance(Hello([1], "reverse-proxy", "0", bytes(16), purpose=purpose))
    link.advance(MESSAGES[Welcome])
    assert link.state is welcomed


def test_a_link_begins_with_the_greeting_and_every_state_can_be_reached() -> None:
    reached = {LinkState().state, *WELCOMED.values()}
    for _ in State:
        reached |= {after for (before, _), after in TRANSITIONS.items() if before in reached}
    assert reached == set(State)
