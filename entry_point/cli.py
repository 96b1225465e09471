"""The command line of entry-point, with its subcommand ``explain``."""

from __future__ import annotations

import rich_click as click

from common.cli import build_program, settings_from
from common.cli_options import SettingOption
from common.setting_fields import settings_of
from entry_point.settings import EntryPointSettings

PROGRAM = "entry-point"


def build() -> click.RichGroup:
    """The command line; run it with :func:`common.cli.run_cli`."""
    group = build_program(
        PROGRAM,
        EntryPointSettings,
        _run,
        "Listen on this machine and lead each connection, through a relay, to a service beside"
        " a reverse-proxy.\n\n"
        "Traffic is encrypted from here to the reverse-proxy; the relay cannot read it.",
        examples=(
            "entry-point -s relay.example.org:4433 -r 5001:5001",
            "entry-point -s 203.0.113.7:4433 -r 8443:intranet.lan:443,2222:192.168.1.5:22",
            "entry-point explain -r 192.0.2.0/24:5001-5010:6001-6010",
        ),
    )
    routes = next(s for s in settings_of(EntryPointSettings) if s.name == "routes")
    group.add_command(
        click.RichCommand(
            name="explain",
            params=[SettingOption(routes, env=None, panel="Options")],
            callback=_explain,
            help="Show what each route means: who may connect where, and who dials what. It needs"
            " no network. Routes come from -r, or as usual from the environment or --config.",
        )
    )
    return group


def _run(settings: EntryPointSettings) -> int:
    from entry_point.app import run

    return run(settings)


@click.pass_context
def _explain(ctx: click.Context, routes: tuple[str, ...] | None) -> None:
    from rich.console import Console

    from common.routes import RouteTable
    from entry_point.explain import explain, render

    settings = settings_from(ctx, EntryPointSettings, routes=routes)
    bind = None if settings.all_addresses else settings.bind
    render(explain(RouteTable.parse(settings.routes).routes, bind=bind), Console())
