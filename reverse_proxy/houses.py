"""What a channel's opener may ask for: a *house* turns its request into one, or into a no.

There are two kinds of openers. A partner names any destination, and the options of its key and
``--allow`` decide. The relay, for a visitor, names an exposure of this reverse-proxy, and with it
the one destination that was exposed: nothing else can be reached that way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common import frames
from common.addresses import HostPort
from common.client import Partners
from common.exposure_grammar import Exposure
from common.outcome import Outcome
from common.refusals import Refusal
from common.wire import Visit
from reverse_proxy.dialler import Judge
from reverse_proxy.metrics import Metrics
from reverse_proxy.policy import Policy


@dataclass(frozen=True, slots=True)
class Request:
    """A stream that somebody asks for.

    Args:
        source: whose it is.
        destination: what to dial; a name is resolved here.
        protocol: what it carries.
        inform: how the destination is told of the source.
        entered_at: where the source came in, as far as it is known.
        judge: says which addresses of the destination may be dialled.
    """

    source: HostPort
    destination: HostPort
    protocol: frames.Protocol
    inform: frames.Inform
    entered_at: HostPort
    judge: Judge


class House:
    """What all desks of one kind of opener share."""

    opens: int
    """The type of the frame that begins a stream."""

    def __init__(self, loop: asyncio.AbstractEventLoop, metrics: Metrics) -> None:
        self.loop = loop
        self.metrics = metrics
        self.on_request: Callable[[], None] = lambda: None
        """Told that a stream begins: one channel less is ready."""

    def budget_key(self, outcome: Outcome) -> str | None:  # noqa: ARG002 - see VisitorsHouse
        """Return under what lines about streams are limited in the log; ``None``: they are not."""
        return None

    def read(self, payload: bytes, partner: bytes) -> Request | Refusal:
        """Return what the frame that begins a stream asks for.

        Args:
            payload: the frame's.
            partner: the opener's raw key.

        Raises:
            ProtocolError: it asks for nothing that can be understood.
        """
        raise NotImplementedError


class PartnersHouse(House):
    """For entry-points.

    Args:
        group: the group of this reverse-proxy.
        policy: what may be dialled.
        partners: whose streams are served, and what each key may open.
    """

    opens = frames.OPEN

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        group: str,
        policy: Policy,
        partners: Partners,
    ) -> None:
        super().__init__(loop, metrics)
        self._group = group
        self._policy = policy
        self._partners = partners

    def read(self, payload: bytes, partner: bytes) -> Request | Refusal:
        """Return the destination that an OPEN frame names."""
        asked = frames.decode_open(payload)

        def judge(host: str, address: str, port: int) -> Refusal | None:
            trusted = self._partners.get(partner)
            if trusted is None:
                return Refusal("expired-key", "the opener's key is no longer trusted here")
            return trusted.check_open(host, address, port) or self._policy.check(
                host, address, port
            )

        if asked.group != self._group:
            # Only a relay that joins links of two groups can bring this about.
            return Refusal("wrong-group", "this reverse-proxy is of another group")
        return Request(
            HostPort(asked.source_host, asked.source_port),
            HostPort(asked.host, asked.port),
            asked.protocol,
            asked.inform,
            HostPort(asked.listen_host, asked.listen_port),
            judge,
        )


class VisitorsHouse(House):
    """For visitors of what this reverse-proxy has exposed.

    Args:
        exposures: by the number under which the relay knows them.
    """

    opens = frames.VISIT

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        exposures: Mapping[int, Exposure],
    ) -> None:
        super().__init__(loop, metrics)
        self._exposures = exposures
        # An exposure names its destination, so it may be dialled; a name may still not lead to a
        # guarded address.
        self._policies = {
            number: Policy.from_list([str(HostPort(each.host, each.target_port))])
            for number, each in exposures.items()
        }

    def budget_key(self, outcome: Outcome) -> str | None:
        """Limit what visitors, who may be anybody, can write to the log by failing."""
        return None if outcome is Outcome.FINISHED else f"visitor's stream {outcome.value}"

    def read(self, payload: bytes, partner: bytes) -> Request | Refusal:  # noqa: ARG002 - a House
        """Return the destination of the exposure that a VISIT frame names."""
        return self.visit(frames.decode_visit(payload), raw=False)

    def visit(self, asked: Visit, *, raw: bool) -> Request | Refusal:
        """Return the destination of the exposure that a visitor wants.

        Args:
            raw: whether its bytes would go through as they are.
        """
        exposure = self._exposures.get(asked.exposure)
        if exposure is None or exposure.raw is not raw:
            # Only a relay that makes exposures up can bring this about.
            return Refusal("unknown-exposure", "this reverse-proxy has exposed no such thing")
        return Request(
            HostPort(asked.visitor_host, asked.visitor_port),
            HostPort(exposure.host, exposure.target_port),
            "udp" if exposure.kind == "udp" else "tcp",
            exposure.inform,
            HostPort(asked.public_host, asked.public_port),
            self._policies[asked.exposure].check,
        )
