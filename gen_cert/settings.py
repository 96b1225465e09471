"""What gen-cert can be told. ``--force`` and ``--passphrase`` are flags only, never in a file."""

from __future__ import annotations

from typing import Annotated

import msgspec

from common.setting_fields import Option, Setting, settings_of
from common.settings import CommonSettings

MOST_DAYS = 36_500
"""A hundred years, well below the year 9999 where X.509 ends (RFC 5280 section 4.1.2.5)."""

OUTPUT = "Output"


class OutputSettings(msgspec.Struct, kw_only=True, frozen=True):
    """What both commands can be told."""

    output: Annotated[
        str,
        Option(
            short="-o",
            panel=OUTPUT,
            metavar="DIR",
            path=True,
            help="The directory for the files; made if it is missing.",
        ),
    ] = "cert"


class X509Settings(OutputSettings, kw_only=True, frozen=True):
    """What ``gen-cert x509`` can be told."""

    dns: Annotated[
        tuple[str, ...],
        Option(
            short="-d",
            metavar="LIST",
            default_text="localhost and this host's name",
            help="The relay's DNS names. Repeat, or separate with commas.",
        ),
    ] = ()
    ip: Annotated[
        tuple[str, ...],
        Option(
            short="-i",
            metavar="LIST",
            default_text="127.0.0.1,::1; none when --dns is given",
            help="The relay's IP addresses. Repeat, or separate with commas.",
        ),
    ] = ()
    days: Annotated[
        int,
        Option(metavar="N", low=1, high=MOST_DAYS, help="How many days the certificate is valid."),
    ] = 365


class Ed25519Settings(OutputSettings, kw_only=True, frozen=True):
    """What ``gen-cert ed25519`` can be told."""

    comment: Annotated[
        str,
        Option(
            metavar="TEXT",
            default_text="user@host",
            help="Whose key it is; shown in lists and logs.",
        ),
    ] = ""


LOG_SETTINGS: tuple[Setting, ...] = tuple(
    setting
    for setting in settings_of(CommonSettings)
    if setting.name in ("log_level", "log_format")
)
"""Of what the long-running programs share: what gen-cert has, too."""

ALL_SETTINGS: tuple[Setting, ...] = (
    tuple(
        {s.name: s for kind in (X509Settings, Ed25519Settings) for s in settings_of(kind)}.values()
    )
    + LOG_SETTINGS
)
"""All that may stand in a config file: one file serves both commands."""
