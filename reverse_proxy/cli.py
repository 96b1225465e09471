"""The command line of reverse-proxy."""

from __future__ import annotations

import rich_click as click

from common.cli import build_program, settings_from
from common.cli_options import SettingOption
from common.setting_fields import settings_of
from reverse_proxy.settings import ReverseProxySettings

PROGRAM = "reverse-proxy"


def build() -> click.RichGroup:
    """The command line; run it with :func:`common.cli.run_cli`."""
    group = build_program(
        PROGRAM,
        ReverseProxySettings,
        _run,
        "Let users of an entry-point reach the services beside this machine, through a relay; or"
        " make services public there.\n\n"
        "It only dials out, so it works behind a NAT or firewall. What it may dial is decided"
        " here: by --allow, and by the options of the keys it trusts.",
        examples=(
            "reverse-proxy -s relay.example.org:4433",
            "reverse-proxy -s 203.0.113.7:4433 --allow 127.0.0.1:5001,192.168.1.0/24:443",
            "reverse-proxy -s relay-a.example.org:4433 -s relay-b.example.org:4433 -g office",
            "reverse-proxy -s relay.example.org:4433 -e 80:80,203.0.113.0/24:2222:22",
            "reverse-proxy -s relay.example.org:4433 --http app:8080 --https www.example.org:8443",
        ),
    )
    file = next(s for s in settings_of(ReverseProxySettings) if s.name == "visitors_file")
    group.add_command(
        click.RichCommand(
            name="whois",
            params=[
                click.Argument(["addresses"], nargs=-1, metavar="[127.x.y.z]..."),
                SettingOption(file, env=None, panel="Options"),
            ],
            callback=_whois,
            help="Tell for which clients loopback addresses stand (option loopback of a route or"
            " exposure); without an address, for all. It needs no network.",
        )
    )
    return group


def _run(settings: ReverseProxySettings) -> int:
    from reverse_proxy.app import run

    return run(settings)


@click.pass_context
def _whois(ctx: click.Context, addresses: tuple[str, ...], visitors_file: str | None) -> None:
    from rich.console import Console

    from reverse_proxy.whois import whois

    settings = settings_from(ctx, ReverseProxySettings, visitors_file=visitors_file)
    whois(settings.visitors_file, addresses, Console())
