"""What relay-server can be told: flags, environment variables and config keys in one place."""

from __future__ import annotations

from typing import Annotated, Literal

from common.setting_fields import Option
from common.settings import HIGHEST_PORT, KEYS, TUNING, CommonSettings


class RelaySettings(CommonSettings, kw_only=True, frozen=True):
    """The settings of relay-server; see :class:`CommonSettings` for the rest and the errors."""

    host: Annotated[
        str,
        Option(
            panel="Listening",
            metavar="ADDRESS",
            default_text="all addresses, IPv6 included",
            help="The address to listen on; empty or * for all.",
        ),
    ] = ""
    port: Annotated[
        int,
        Option(
            short="-p",
            panel="Listening",
            metavar="PORT",
            high=HIGHEST_PORT,
            help="The port to listen on; 0 takes a free one and the ready line tells which.",
        ),
    ] = 4433
    server_cert: Annotated[
        str,
        Option(
            short="-c",
            panel=KEYS,
            metavar="FILE",
            path=True,
            help="The certificate to show to clients (gen-cert x509).",
        ),
    ] = "cert/server.crt"
    server_key: Annotated[
        str,
        Option(
            short="-k",
            panel=KEYS,
            metavar="FILE",
            path=True,
            help="The private key of the certificate.",
        ),
    ] = "cert/server.key"
    auth_public_key: Annotated[
        str,
        Option(
            short="-a",
            panel=KEYS,
            metavar="FILE",
            path=True,
            help="The keys of the clients to admit, one a line, as in authorized_keys.",
        ),
    ] = "cert/auth.pub"
    forwarder: Annotated[
        Literal["auto", "splice", "copy"],
        Option(
            panel=TUNING,
            metavar="HOW",
            help="How bytes move: splice (the kernel does it; Linux), copy, or auto: the best that"
            " works here.",
        ),
    ] = "auto"
    heartbeat: Annotated[
        float,
        Option(
            panel=TUNING,
            metavar="SECONDS",
            low=0.1,
            high=3600,
            help="How often a waiting link is asked for a sign of life; after three it is dead.",
        ),
    ] = 10.0

    @property
    def all_addresses(self) -> bool:
        """Whether to listen on every address, IPv4 and IPv6."""
        return self.host in ("", "*")
