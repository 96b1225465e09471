"""How long a visitor's HTTP connection may take over what it does: a pure decision.

Whoever holds a connection open holds a place that others want. A head has to come in one go; a
body and an answer may be as long as they like, as long as they move. What the service takes its
time for is not the visitor's fault and has no limit here, nor has what is no HTTP any more.
"""

from __future__ import annotations

import enum
from typing import Final

from relay_server.http.states import State

HEAD_S: Final = 10.0
"""Seconds from the first byte of a head to its last."""
IDLE_S: Final = 60.0
"""Seconds between two requests; browsers keep connections for minutes, servers for one."""
STALL_S: Final = 60.0
"""Seconds without a byte of a body that is read, or of an answer that is taken; as in nginx."""
LEAVE_S: Final = 3.0
"""Seconds for the visitor to take what was said last (a RST would take it away again)."""


class Overdue(enum.Enum):
    """What is to be done about a visitor."""

    NOTHING = "nothing"
    LEAVE = "leave"
    """Say goodbye."""
    REFUSE = "refuse"
    """Say that it took too long, if that can still be said."""
    FINISH = "finish"
    """Close: it had its time to go."""
    ABORT = "abort"
    """Break off: what it has is not complete."""


def overdue(
    state: State, spent_s: float, *, begun: bool, draining: bool, unread_s: float, untaken_s: float
) -> Overdue:
    """Return what is to be done.

    Args:
        spent_s: seconds since the head began, or the state was entered (HEAD, LEAVING).
        begun: something of a head has come.
        draining: the visitor has not taken all that was said.
        unread_s: seconds that it has been listened to, and has said nothing.
        untaken_s: seconds that it has taken nothing of what waits for it.
    """
    if state is State.HEAD:
        if begun:
            return Overdue.REFUSE if spent_s >= HEAD_S else Overdue.NOTHING
        return Overdue.LEAVE if spent_s >= IDLE_S else Overdue.NOTHING
    if state is State.LEAVING:
        if draining:  # what is cut off must not look complete
            return Overdue.ABORT if spent_s >= IDLE_S else Overdue.NOTHING
        return Overdue.FINISH if spent_s >= LEAVE_S else Overdue.NOTHING
    if state in (State.BODY, State.ANSWER) and untaken_s >= STALL_S:
        return Overdue.ABORT
    if state is State.BODY and unread_s >= STALL_S:
        return Overdue.REFUSE
    return Overdue.NOTHING
