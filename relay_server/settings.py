"""What relay-server can be told: flags, environment variables and config keys in one place."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from common.setting_fields import Option
from common.settings import DAY_S, HIGHEST_PORT, KEYS, TUNING, CommonSettings, UdpIdle

PUBLIC: Final = "Public side"
OFF: Final = -1
"""The value of a port that is not served."""


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

    public_host: Annotated[
        str,
        Option(
            panel=PUBLIC,
            metavar="ADDRESS",
            default_text="as --host",
            help="The address that public ports and host names listen on; * for all.",
        ),
    ] = ""
    domain: Annotated[
        str,
        Option(
            panel=PUBLIC,
            metavar="NAME",
            default_text="none: only full host names",
            help="The domain under which reverse-proxies publish names: app becomes app.NAME. Its"
            " DNS has to lead *.NAME here.",
        ),
    ] = ""
    http_port: Annotated[
        int,
        Option(
            panel=PUBLIC,
            metavar="PORT",
            high=HIGHEST_PORT,
            default_text="off",
            help="Serve host names over HTTP on this port; it may be the relay's own.",
        ),
    ] = OFF
    https_port: Annotated[
        int,
        Option(
            panel=PUBLIC,
            metavar="PORT",
            high=HIGHEST_PORT,
            default_text="off",
            help="Serve host names over TLS on this port; it may be the relay's own.",
        ),
    ] = OFF
    https_cert: Annotated[
        tuple[str, ...],
        Option(
            panel=PUBLIC,
            metavar="FILE",
            path=True,
            default_text="none: TLS is passed through only",
            help="Certificates for the host names, read again when they change; repeat for more.",
        ),
    ] = ()
    https_key: Annotated[
        tuple[str, ...],
        Option(
            panel=PUBLIC,
            metavar="FILE",
            path=True,
            default_text="none",
            help="The private key of each --https-cert, in the same order.",
        ),
    ] = ()
    reserve: Annotated[
        float,
        Option(
            panel=PUBLIC,
            metavar="SECONDS",
            high=DAY_S,
            help="How long ports and names are kept for a reverse-proxy that is away.",
        ),
    ] = 600.0
    max_visitors: Annotated[
        int,
        Option(
            panel=PUBLIC,
            metavar="N",
            low=1,
            high=1_000_000,
            help="The most visitors at once, of all exposures together.",
        ),
    ] = 8192

    udp_idle: UdpIdle = 60.0

    @property
    def all_addresses(self) -> bool:
        """Whether to listen on every address, IPv4 and IPv6."""
        return self.host in ("", "*")
