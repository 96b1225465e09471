"""The settings that several programs share. :mod:`common.setting_fields` says how they are made.

Every struct checks itself when it is made, from code as well as from a command line.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from common.errors import SettingError
from common.setting_fields import Option, settings_of

DAY_S = 86_400.0
HIGHEST_PORT = 65535

RUNNING = "Running"
LOGGING = "Logs and metrics"
KEYS = "Keys and certificates"
TUNING = "Tuning"


UdpIdle: TypeAlias = Annotated[
    float,
    Option(
        panel=TUNING,
        metavar="SECONDS",
        low=1,
        high=DAY_S,
        help="How long UDP datagrams of one source may pause before its flow is forgotten.",
    ),
]
"""The type of ``--udp-idle``, which entry-point and relay-server have alike."""


class CommonSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What every long-running program can be told.

    Raises:
        SettingError: a value of the wrong type, or out of its range; the message names the flag,
            the value and what is allowed.
    """

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Option(
            panel=LOGGING,
            metavar="LEVEL",
            help="The least important messages to show: debug, info, warning or error.",
        ),
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"],
        Option(
            panel=LOGGING,
            metavar="FORMAT",
            help="text to read (in colour on a terminal), or json: one object a line.",
        ),
    ] = "text"
    metrics: Annotated[
        str,
        Option(
            panel=LOGGING,
            metavar="HOST:PORT",
            default_text="off",
            help="Serve metrics in Prometheus' text format at this address.",
        ),
    ] = ""
    grace: Annotated[
        float,
        Option(
            panel=RUNNING,
            metavar="SECONDS",
            high=DAY_S,
            help="How long open streams may go on after SIGTERM or Ctrl-C; a second signal ends"
            " at once.",
        ),
    ] = 10.0
    event_loop: Annotated[
        Literal["auto", "uvloop", "asyncio"],
        Option(
            panel=RUNNING,
            metavar="LOOP",
            help="uvloop (faster), asyncio (Python's own), or auto: uvloop where it is installed.",
        ),
    ] = "auto"

    def __post_init__(self) -> None:
        for setting in settings_of(type(self)):
            value = getattr(self, setting.name)
            if value != setting.default:
                setting.fit(value, setting.flag)


class ClientSettings(CommonSettings, kw_only=True, frozen=True):
    """What the two clients of a relay, entry-point and reverse-proxy, can be told alike."""

    server_address: Annotated[
        tuple[str, ...],
        Option(
            short="-s",
            panel="Relay",
            metavar="HOST:PORT",
            help="The relay. Repeat, or separate with commas: all of them are used at once.",
        ),
    ] = ("localhost:4433",)
    group_id: Annotated[
        str,
        Option(
            short="-g",
            panel="Relay",
            metavar="NAME",
            number_ok=True,
            help="Only clients of the same group meet each other.",
        ),
    ] = "0"
    server_cert: Annotated[
        str,
        Option(
            short="-c",
            panel=KEYS,
            metavar="FILE",
            path=True,
            help="The relay's certificate; system trusts the certificate authorities of this"
            " machine instead.",
        ),
    ] = "cert/server.crt"
    auth_private_key: Annotated[
        str,
        Option(
            short="-a",
            panel=KEYS,
            metavar="FILE",
            path=True,
            help="The private key that names this machine (gen-cert ed25519 or ssh-keygen).",
        ),
    ] = "cert/auth"
    trusted_keys: Annotated[
        str,
        Option(
            short="-t",
            panel=KEYS,
            metavar="FILE",
            path=True,
            default_text="own key",
            help="The keys of partners to talk to, one a line, as in authorized_keys.",
        ),
    ] = ""
    pool: Annotated[
        int,
        Option(
            panel=TUNING,
            metavar="N",
            low=1,
            high=65536,
            help="Connections kept ready on each relay.",
        ),
    ] = 8
    max_channels: Annotated[
        int,
        Option(
            panel=TUNING,
            metavar="N",
            low=1,
            high=1_000_000,
            help="The most connections to open on each relay, however great the demand.",
        ),
    ] = 4096
    pool_linger: Annotated[
        float,
        Option(
            panel=TUNING,
            metavar="SECONDS",
            low=1,
            high=DAY_S,
            help="How long connections that a burst has added are kept after it.",
        ),
    ] = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pool > self.max_channels:
            raise SettingError(
                f"--pool: {self.pool} is more than --max-channels {self.max_channels};"
                f" write --max-channels {self.pool} or more"
            )
