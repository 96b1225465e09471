"""What reverse-proxy counts."""

from __future__ import annotations

from dataclasses import dataclass

from common.counters import counter


@dataclass(slots=True)
class Metrics:
    """Counts since the start."""

    streams_opened: int = counter("Streams that an opener asked for.")
    streams_refused: int = counter("Streams that were not served: see the log for each reason.")
    streams_finished: int = counter("Streams in which both sides said all they had to say.")
    streams_failed: int = counter("Streams that were served and ended in any other way.")
    bytes_sent: int = counter("Bytes from destinations to sources.")
    bytes_received: int = counter("Bytes from sources to destinations.")
    channels_opened: int = counter("Channels made: each cost an outer and an inner handshake.")
    channels_closed: int = counter("Channels that ended, for whatever reason.")
    flows_opened: int = counter("Flows of datagrams that began.")
    datagrams_sent: int = counter("Datagrams from destinations to sources.")
    datagrams_received: int = counter("Datagrams from sources to destinations.")
    datagrams_dropped: int = counter("Datagrams that found no room, or nobody.")
    splice_calls: int = counter("splice(2) calls from a raw socket that moved bytes.")
    bytes_spliced: int = counter("Bytes of raw streams moved by the kernel.")
    bytes_copied: int = counter("Bytes of raw streams moved through this process: small messages.")
