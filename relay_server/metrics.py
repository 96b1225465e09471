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
    bytes_copied: int = counter("Bytes moved through this process: small messages.")
    exposures_refused: int = counter("Exposures that were asked for and not granted: see the log.")
    visitors_accepted: int = counter("Connections to public ports that an exposure admitted.")
    visitors_rejected: int = counter("Connections to public ports that none admitted, or too many.")
    visitors_finished: int = counter("Visitors who said, and heard, all there was to say.")
    visitors_failed: int = counter("Visitors who were served, or not, and ended in any other way.")
    visitor_bytes_sent: int = counter("Bytes from visitors to exposed services.")
    visitor_bytes_received: int = counter("Bytes from exposed services to visitors.")
    flows_opened: int = counter("Flows of datagrams that began.")
    flows_evicted: int = counter("Flows that had to go for newer ones.")
    datagrams_sent: int = counter("Datagrams from visitors to exposed services.")
    datagrams_received: int = counter("Datagrams from exposed services to visitors.")
    datagrams_dropped: int = counter("Datagrams that found no room, or were not admitted.")
    http_requests: int = counter("Requests to host names, those that were refused included.")
    channels_opened: int = counter("Channels for visitors that reverse-proxies made.")
    channels_closed: int = counter("Channels for visitors that ended, for whatever reason.")
    proofs_asked: int = counter("Channels silent for a while that were asked for a sign of life.")
    proofs_failed: int = counter("Channels that gave none and were closed.")
