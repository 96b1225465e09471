"""What entry-point counts."""

from __future__ import annotations

from dataclasses import dataclass

from common.counters import counter


@dataclass(slots=True)
class Metrics:
    """Counts since the start."""

    sources_accepted: int = counter("Connections that a route admitted.")
    sources_rejected: int = counter("Connections that no route admitted; they got a RST.")
    streams_finished: int = counter("Streams in which both sides said all they had to say.")
    streams_failed: int = counter("Streams that ended in any other way.")
    bytes_sent: int = counter("Bytes from sources to destinations.")
    bytes_received: int = counter("Bytes from destinations to sources.")
    flows_opened: int = counter("Flows of datagrams that began.")
    flows_evicted: int = counter("Flows that had to go for newer ones.")
    datagrams_sent: int = counter("Datagrams from sources to destinations.")
    datagrams_received: int = counter("Datagrams from destinations to sources.")
    datagrams_dropped: int = counter("Datagrams that found no room, or were not admitted.")
    proofs_asked: int = counter("Channels silent for a while that were asked for a sign of life.")
    proofs_failed: int = counter("Channels that gave none and were closed.")
    channels_opened: int = counter("Channels made: each cost an outer and an inner handshake.")
    channels_closed: int = counter("Channels that ended, for whatever reason.")
