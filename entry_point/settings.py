"""What entry-point can be told: flags, environment variables and config keys in one place."""

from __future__ import annotations

from typing import Annotated

from common.setting_fields import Option
from common.settings import DAY_S, ClientSettings, UdpIdle


class EntryPointSettings(ClientSettings, kw_only=True, frozen=True):
    """The settings of entry-point; see :class:`ClientSettings` for the rest and the errors."""

    routes: Annotated[
        tuple[str, ...],
        Option(
            short="-r",
            panel="Routes",
            metavar="LIST",
            example="-r 5001:5001 (listen on port 5001, lead to port 5001 beside the"
            " reverse-proxy)",
            help="Where to listen and where it leads; repeat, or separate with commas. Forms:"
            " port:port, source:port:port, port:host:port, source:port:host:port; ports may be"
            " ranges such as 5001-5010.",
        ),
    ]
    bind: Annotated[
        str,
        Option(
            panel="Routes",
            metavar="ADDRESS",
            default_text="all addresses, IPv6 included",
            help="The address to listen on; empty or * for all.",
        ),
    ] = ""
    wait: Annotated[
        float,
        Option(
            panel="Routes",
            metavar="SECONDS",
            high=DAY_S,
            help="How long a new connection may wait while no reverse-proxy is there.",
        ),
    ] = 10.0

    udp_idle: UdpIdle = 60.0

    @property
    def all_addresses(self) -> bool:
        """Whether to listen on every address, IPv4 and IPv6."""
        return self.bind in ("", "*")
