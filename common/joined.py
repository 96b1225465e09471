"""A session that has just become a channel's, and who is at its other end."""

from __future__ import annotations

from dataclasses import dataclass

from common.session import Session


@dataclass(frozen=True, slots=True)
class Joined:
    """A session with a partner whose key has been proven and is trusted."""

    session: Session
    partner: bytes
    """The partner's raw key, 32 bytes; at a reverse-proxy's channel for visitors, none."""
    instance: bytes
    """The partner's process, as the relay tells it: for spreading load, not for trust."""
    heartbeat_s: float
