"""What reverse-proxy can be told: flags, environment variables and config keys in one place."""

from __future__ import annotations

from typing import Annotated

from common.setting_fields import Option
from common.settings import ClientSettings


class ReverseProxySettings(ClientSettings, kw_only=True, frozen=True):
    """The settings of reverse-proxy; see :class:`ClientSettings` for the rest and the errors."""

    allow: Annotated[
        tuple[str, ...],
        Option(
            panel="Destinations",
            metavar="LIST",
            default_text="everything but link-local addresses",
            help="The only destinations that may be dialled; repeat, or separate with commas.",
        ),
    ] = ()
