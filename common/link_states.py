"""The life of a link as one table, the same at both ends.

Every message goes one way only, so a state and a message name the next state whether the message
was sent or received. A pair that is not in the table is a protocol error that names both.

One race is in the table on purpose: a client's PING may cross the relay's PAIRED on the wire, so
the relay may still receive PING in state PAIRED; it does not answer, for PAIRED is its last word.
"""

from __future__ import annotations

import enum
from typing import Final

from common.errors import ProtocolError
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
    """The raw socket belongs to the pair."""
    CLOSED = "closed"
    """Nothing more is said."""


TRANSITIONS: Final[dict[tuple[State, type], State]] = {
    (State.GREETING, Trust): State.GREETING,
    (State.GREETING, Hello): State.JUDGED,
    (State.GREETING, Denied): State.CLOSED,
    (State.JUDGED, Welcome): State.PENDING,
    (State.JUDGED, Denied): State.CLOSED,
    (State.PENDING, Ping): State.PENDING,
    (State.PENDING, Pong): State.PENDING,
    (State.PENDING, GoAway): State.PENDING,
    (State.PENDING, Denied): State.CLOSED,
    (State.PENDING, Paired): State.PAIRED,
    (State.PAIRED, Ping): State.PAIRED,
    (State.PAIRED, Ready): State.HANDED_OVER,
}


class LinkState:
    """Holds the state of one link and refuses what the table does not allow."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = State.GREETING

    def advance(self, message: Message) -> None:
        """Enter the state that ``message`` leads to, be it sent or received.

        Raises:
            ProtocolError: the message is not allowed in this state; the state is kept.
        """
        following = TRANSITIONS.get((self.state, type(message)))
        if following is None:
            name = type(message).__name__.upper()
            raise ProtocolError(f"{name} is not allowed on a link that is {self.state.value}")
        self.state = following
