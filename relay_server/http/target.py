"""A service that is published under a host name, as its visitors' connections see it."""

from __future__ import annotations

from typing import Protocol

from common.addresses import HostPort
from relay_server.http.exchange import Customer, Exchange
from relay_server.http.pages import Page


class Target(Protocol):
    """One service."""

    @property
    def host_header(self) -> bytes:
        """What the service is told as Host; empty: what the visitor sent."""

    def open(
        self, address: HostPort, entered_at: HostPort, first: bytes, customer: Customer
    ) -> Exchange | Page:
        """Begin a stream to the service that says ``first``; or return why not."""
