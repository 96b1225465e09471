"""gen-cert's command line."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import rich_click as click

from common.cli import HELP_STYLE, add_common_commands, env_prefix
from common.cli_options import SettingOption, put_by, raise_first
from common.config_file import load_config
from common.errors import SettingError
from common.setting_fields import settings_of
from gen_cert.app import make_ed25519, make_x509
from gen_cert.ed25519 import default_comment
from gen_cert.report import Report, show
from gen_cert.settings import (
    ALL_SETTINGS,
    LOG_SETTINGS,
    OUTPUT,
    Ed25519Settings,
    X509Settings,
)

PROGRAM = "gen-cert"

AnySettings = TypeVar("AnySettings", bound=msgspec.Struct)

_PREFIX = env_prefix(PROGRAM)
_EXAMPLES = """[bold]Examples[/]

[cyan]gen-cert x509 --dns relay.example.com --ip 203.0.113.7[/]

[cyan]gen-cert ed25519 --comment "the house in the hills"[/]
"""


def build() -> click.RichGroup:
    """Return the command line; run it with ``common.cli.run_cli``."""
    group = click.RichGroup(
        name=PROGRAM,
        params=_shared_options(),
        help="Make the relay's certificate, and the key pairs that name machines and people.",
        epilog=_EXAMPLES,
        context_settings={"rich_help_config": HELP_STYLE},
    )
    add_common_commands(group, PROGRAM)
    group.add_command(
        click.RichCommand(
            name="x509",
            callback=_x509,
            params=[*_options(X509Settings), _force(), *_shared_options()],
            help="Make the relay's TLS certificate: server.crt, for the relay and its clients, and"
            " server.key, for the relay alone.",
        )
    )
    group.add_command(
        click.RichCommand(
            name="ed25519",
            callback=_ed25519,
            params=[*_options(Ed25519Settings), _passphrase(), _force(), *_shared_options()],
            help="Make an ed25519 key pair in OpenSSH's formats: auth, to be kept secret, and"
            " auth.pub, for those who shall trust it.",
        )
    )
    return group


@click.pass_context
def _x509(ctx: click.Context, /, *, force: bool, **_values: object) -> None:
    _show(ctx, make_x509(_given(ctx, X509Settings), force=force))


@click.pass_context
def _ed25519(ctx: click.Context, /, *, passphrase: bool, force: bool, **_values: object) -> None:
    try:
        settings = _given(ctx, Ed25519Settings, comment=default_comment())
        report = make_ed25519(settings, passphrase=passphrase, force=force)
    except (EOFError, KeyboardInterrupt):
        click.echo(err=True)  # the prompt's line has no end yet
        raise click.Abort from None
    _show(ctx, report)


def _given(
    ctx: click.Context, settings_type: type[AnySettings], **otherwise: object
) -> AnySettings:
    raise_first(ctx)
    names = {setting.name for setting in settings_of(settings_type)}
    given = {name: v for name, v in ctx.params.items() if name in names and v is not None}
    return settings_type(**{**otherwise, **given})


def _show(ctx: click.Context, report: Report) -> None:
    """Print the report as the shared flags say, given to the command or before it."""
    above: dict[str, Any] = ctx.parent.params if ctx.parent else {}
    level, fmt = (
        str(ctx.params.get(s.name) or above.get(s.name) or s.default) for s in LOG_SETTINGS
    )
    show(report, level=level, fmt=fmt)


def _options(settings_type: type[msgspec.Struct]) -> list[click.Parameter]:
    return [SettingOption(s, s.env(_PREFIX)) for s in settings_of(settings_type)]


def _force() -> click.Parameter:
    return click.RichOption(["--force"], is_flag=True, help="Replace files that are there already.")


def _passphrase() -> click.Parameter:
    return click.RichOption(
        ["--passphrase"],
        is_flag=True,
        help="Derive the key from a passphrase: the same on every machine. It is asked for twice;"
        " when stdin is no terminal, its first line is taken (UTF-8).",
    )


def _shared_options() -> list[click.Parameter]:
    config = click.RichOption(
        ["--config"],
        metavar="FILE",
        type=click.Path(),
        envvar=f"{_PREFIX}CONFIG",
        is_eager=True,
        expose_value=False,
        callback=_use_config,
        help="Read settings from this TOML or JSON file; its keys are the flags without dashes.",
    )
    return [*(SettingOption(s, s.env(_PREFIX), OUTPUT) for s in LOG_SETTINGS), config]


def _use_config(ctx: click.Context, _param: click.Parameter, path: str | None) -> None:
    if not path or ctx.resilient_parsing:
        return
    try:
        values: dict[str, Any] = {**load_config(path, ALL_SETTINGS)}
    except SettingError as error:
        put_by(ctx, error)
        return
    # For the group itself, and for whichever command follows.
    ctx.default_map = {**values, "x509": values, "ed25519": values}
