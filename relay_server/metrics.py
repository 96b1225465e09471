"""What relay-server counts."""

from __future__ import annotations

from dataclasses import dataclass

from common.counters import counter


@dataclass(slots=True)
class Metrics:
    """Counts since the start."""

    connections_accepted: int = counter("TCP connections accepted.")
    connections_evicted: int = counter("Strangers dropped to make room for newer ones.")
    logins_failed: int = counter("Connections that ended before HELLO: scanners, mostly.")
    links_denied: int = counter("Links refused with a reason: see the log.")
    links_welcomed: int = counter("Links admitted to the pool.")
    links_lost: int = counter("Pending links that ended, or fell silent.")
    pairs_made: int = counter("Pairs whose links were told of each other.")
    pairs_failed: int = counter("Pairs of which one side was not READY in time.")
    pairs_joined: int = counter("Pairs whose raw sockets were joined.")
    pairs_ended: int = counter("Joined pairs that have ended.")
    splice_calls: int = counter("splice(2) calls from a socket that moved bytes.")
    bytes_spliced: int = counter("Bytes moved by the kernel.")
    bytes_copied: int = counter("Bytes moved through this process, where splice cannot be used.")
