"""The command line of relay-server."""

from __future__ import annotations

import rich_click as click

from common.cli import build_program
from relay_server.settings import RelaySettings

PROGRAM = "relay-server"


def build() -> click.RichGroup:
    """The command line; run it with :func:`common.cli.run_cli`."""
    return build_program(
        PROGRAM,
        RelaySettings,
        _run,
        "Bring entry-points and reverse-proxies together on a host that both can reach.\n\n"
        "The relay sees who is connected, never what they say: the traffic between an"
        " entry-point and a reverse-proxy is encrypted end to end.",
        examples=(
            "relay-server",
            "relay-server -p 443 -a trusted_keys",
            "RELAY_SERVER_PORT=443 relay-server --config relay.toml",
        ),
    )


def _run(settings: RelaySettings) -> int:
    from relay_server.app import run

    return run(settings)
