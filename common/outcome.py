"""How a stream ends."""

from __future__ import annotations

import enum


class Outcome(enum.StrEnum):
    """How a stream ended: the one word in the log and the metrics."""

    FINISHED = "finished"
    """Both sides said all they had to say."""
    RESET_BY_SOURCE = "reset-by-source"
    RESET_BY_DESTINATION = "reset-by-destination"
    REFUSED = "refused"
    """The destination refused, could not be reached, or may not be dialled."""
    LOST = "lost"
    """The channel ended under the stream: a relay, a peer or the network failed."""
    NO_CHANNEL = "no-channel"
    """No channel was ready within the time a source waits."""
    STOPPED = "stopped"
    """The program ended, and the grace was over."""
