"""The command line of reverse-proxy."""

from __future__ import annotations

import rich_click as click

from common.cli import build_program
from reverse_proxy.settings import ReverseProxySettings

PROGRAM = "reverse-proxy"


def build() -> click.RichGroup:
    """The command line; run it with :func:`common.cli.run_cli`."""
    return build_program(
        PROGRAM,
        ReverseProxySettings,
        _run,
        "Let users of an entry-point reach the services beside this machine, through a relay.\n\n"
        "It only dials out, so it works behind a NAT or firewall. What it may dial is decided"
        " here: by --allow, and by the options of the keys it trusts.",
        examples=(
            "reverse-proxy -s relay.example.org:4433",
            "reverse-proxy -s 203.0.113.7:4433 --allow 127.0.0.1:5001,192.168.1.0/24:443",
            "reverse-proxy -s relay-a.example.org:4433 -s relay-b.example.org:4433 -g office",
        ),
    )


def _run(settings: ReverseProxySettings) -> int:
    from reverse_proxy.app import run

    return run(settings)
