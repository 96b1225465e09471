"""The life of a link as one table, the same at both ends.

Every message goes one way only, so a state and a message name the next state whether the message
was sent or received. A pair that is not in the table is a protocol error that names both.

WELCOME leads where the purpose of HELLO says.

One race is in the table on purpose: a client's PING may cross the relay's PAIRED or VISIT on the
wire, so the relay may still receive PING after it; it does not answer, for that was its last word.
"""

from __future__ import annotations

import enum
from typing import Final

from common.errors import ProtocolError
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


class State(enum.Enum):
    """Where a link stands."""

    GREETING = "greeting"
    """The TLS session is up; the client introduces itself."""
    JUDGED = "judged"
    """HELLO has been said; the relay decides."""
    PENDING = "pending"
    """The link waits for a partner."""
    PAIRED = "paired"
    """The relay has said its last word; the client has not."""
    HANDED_OVER = "handed-over"
    """The raw socket belongs to the pair, or to a visitor."""
    EXPOSING = "exposing"
    """The link asks for exposures, and holds them."""
    CHANNEL = "channel"
    """Frames follow; there are no more messages."""
    WAITING = "waiting"
    """The link waits for a visitor whose bytes go over its raw socket."""
    VISITED = "visited"
    """The relay has told of a visitor, its last word; the client has not answered."""
    CLOSED = "closed"
    """Nothing more is said."""


TRANSITIONS: Final[dict[tuple[State, type], State]] = {
    (State.GREETING, Trust): State.GREETING,
    (State.GREETING, Hello): State.JUDGED,
    (State.GREETING, Denied): State.CLOSED,
    (State.JUDGED, Denied): State.CLOSED,
    (State.PENDING, Ping): State.PENDING,
    (State.PENDING, Pong): State.PENDING,
    (State.PENDING, GoAway): State.PENDING,
    (State.PENDING, Denied): State.CLOSED,
    (State.PENDING, Paired): State.PAIRED,
    (State.PAIRED, Ping): State.PAIRED,
    (State.PAIRED, Ready): State.HANDED_OVER,
    (State.EXPOSING, Expose): State.EXPOSING,
    (State.EXPOSING, Exposed): State.EXPOSING,
    (State.EXPOSING, Unexposed): State.EXPOSING,
    (State.EXPOSING, Demand): State.EXPOSING,
    (State.EXPOSING, Ping): State.EXPOSING,
    (State.EXPOSING, Pong): State.EXPOSING,
    (State.EXPOSING, GoAway): State.EXPOSING,
    (State.EXPOSING, Denied): State.CLOSED,
    (State.WAITING, Ping): State.WAITING,
    (State.WAITING, Pong): State.WAITING,
    (State.WAITING, GoAway): State.WAITING,
    (State.WAITING, Denied): State.CLOSED,
    (State.WAITING, Visit): State.VISITED,
    (State.VISITED, Ping): State.VISITED,
    (State.VISITED, Ready): State.HANDED_OVER,
    (State.VISITED, Declined): State.CLOSED,
}

WELCOMED: Final[dict[Purpose, State]] = {
    "pair": State.PENDING,
    "exposures": State.EXPOSING,
    "visitors": State.CHANNEL,
    "raw": State.WAITING,
}
"""Where WELCOME leads, by the purpose of HELLO."""


class LinkState:
    """Holds the state of one link and refuses what the table does not allow."""

    __slots__ = ("_purpose", "state")

    def __init__(self) -> None:
        self.state = State.GREETING
        self._purpose: Purpose = "pair"

    def advance(self, message: Message) -> None:
        """Enter the state that ``message`` leads to, be it sent or received.

        Raises:
            ProtocolError: the message is not allowed in this state; the state is kept.
        """
        if isinstance(message, Hello):
            self._purpose = message.purpose
        if self.state is State.JUDGED and isinstance(message, Welcome):
            self.state = WELCOMED[self._purpose]
            return
        following = TRANSITIONS.get((self.state, type(message)))
        if following is None:
            name = type(message).__name__.upper()
            raise ProtocolError(f"{name} is not allowed on a link that is {self.state.value}")
        self.state = following
