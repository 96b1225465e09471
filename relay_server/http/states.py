"""Where a visitor's HTTP connection stands."""

from __future__ import annotations

import enum


class State(enum.Enum):
    """One of these at a time; :mod:`relay_server.http.visitor` has the order."""

    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"
    TUNNEL = "tunnel"
    LEAVING = "leaving"
    OVER = "over"
