"""What reverse-proxy can be told: flags, environment variables and config keys in one place."""

from __future__ import annotations

from typing import Annotated, Final

from common.setting_fields import Option
from common.settings import ClientSettings
from common.wire import MAX_HOLD_S

EXPOSURES: Final = "Exposures"


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
    expose: Annotated[
        tuple[str, ...],
        Option(
            short="-e",
            panel=EXPOSURES,
            metavar="LIST",
            default_text="nothing",
            help="Make ports public at the relay: public_port:port, public_port:host:port, with a"
            " source before it to admit only that network; ports may be ranges, and 0 asks for any"
            " free one. /udp for UDP. Options follow: raw, proxy-v1, proxy-v2, loopback.",
        ),
    ] = ()
    http: Annotated[
        tuple[str, ...],
        Option(
            panel=EXPOSURES,
            metavar="LIST",
            default_text="nothing",
            help="Make HTTP services public under host names: name:port or name:host:port. A name"
            " without a dot is put below the relay's domain; *.name is all below it. Option:"
            " host=NAME rewrites the Host header.",
        ),
    ] = ()
    https: Annotated[
        tuple[str, ...],
        Option(
            panel=EXPOSURES,
            metavar="LIST",
            default_text="nothing",
            help="The same for services that speak TLS themselves: it is passed through, by SNI.",
        ),
    ] = ()
    hold: Annotated[
        float,
        Option(
            panel=EXPOSURES,
            metavar="SECONDS",
            high=MAX_HOLD_S,
            default_text="0: refuse at once",
            help="How long visitors wait at the relay while this reverse-proxy is away.",
        ),
    ] = 0.0
    visitors_file: Annotated[
        str,
        Option(
            panel=EXPOSURES,
            metavar="FILE",
            path=True,
            default_text="visitors.json in the user's state directory",
            help="Where the addresses 127.x.y.z that stand for clients are remembered (loopback).",
        ),
    ] = ""
