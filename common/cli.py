"""A program's command line, made from its settings.

Each setting is taken from its flag; without one from the environment; without that from the
config file; and otherwise it has its default.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import rich_click as click

from common.cli_commands import add_common_commands, run_cli
from common.cli_options import SettingOption, put_by, raise_first
from common.config_file import load_config
from common.errors import SettingError
from common.setting_fields import settings_of
from common.settings import CommonSettings

__all__ = ["add_common_commands", "build_program", "env_prefix", "run_cli", "settings_from"]

AnySettings = TypeVar("AnySettings", bound=CommonSettings)

HELP_STYLE: dict[str, Any] = {
    "text_markup": "rich",
    "options_table_column_types": ["opt_short", "opt_long", "metavar", "help"],
    "options_table_help_sections": ["help"],
    "max_width": 110,
}


def env_prefix(program: str) -> str:
    """``relay-server`` -> ``RELAY_SERVER_``."""
    return f"{program.replace('-', '_').upper()}_"


def build_program(
    name: str,
    settings_type: type[AnySettings],
    run: Callable[[AnySettings], int],
    help: str,  # noqa: A002 - click's word for it
    *,
    examples: Sequence[str] = (),
) -> click.RichGroup:
    """A command that runs a program with the settings a user gave in flags, environment and file.

    Without a subcommand it calls ``run`` and its result is the exit status. Add subcommands with
    ``add_command``; theirs are the settings too, by :func:`settings_from`. Run it by
    :func:`run_cli`.

    Args:
        name: the program's name, which also makes the prefix of its environment variables.
        settings_type: the declaration from which the options are made.
        run: the program; it is not called when a setting is missing or wrong.
        help: what the program is for, a few sentences. It may hold rich markup.
        examples: command lines, shown at the end of ``--help``.
    """

    @click.pass_context
    def start(ctx: click.RichContext, /, **_values: object) -> int:
        return 0 if ctx.invoked_subcommand else run(settings_from(ctx, settings_type))

    prefix = env_prefix(name)
    config = click.RichOption(
        ["--config"],
        metavar="FILE",
        type=click.Path(),
        envvar=f"{prefix}CONFIG",
        is_eager=True,
        expose_value=False,
        callback=functools.partial(_use_config, settings_type),
        help="Read settings from this TOML or JSON file; its keys are the flags without dashes.",
    )
    options = [SettingOption(s, s.env(prefix)) for s in settings_of(settings_type)]
    group = click.RichGroup(
        name=name,
        callback=start,
        params=[*options, config],
        invoke_without_command=True,
        help=help,
        epilog=_epilog(prefix, examples),
        context_settings={"rich_help_config": HELP_STYLE},
    )
    add_common_commands(group, name)
    return group


def settings_from(
    ctx: click.Context, settings_type: type[AnySettings], **instead: object
) -> AnySettings:
    """The settings of the program whose command line ``ctx`` is, or is a subcommand of.

    Args:
        ctx: a context of a group made by :func:`build_program`, or of its subcommand.
        settings_type: the type that was given there.
        instead: values, by field name, that win over those of the group unless they are ``None``.

    Raises:
        SettingError: a value does not fit, a setting without a default was not given, or two do
            not fit together.
    """
    raise_first(ctx)
    values = {**ctx.find_root().params, **{k: v for k, v in instead.items() if v is not None}}
    given: dict[str, Any] = {}
    for setting in settings_of(settings_type):
        if (value := values.get(setting.name)) is not None:
            given[setting.name] = value
        elif setting.default is None:
            raise setting.missing()
    return settings_type(**given)


def _use_config(
    settings_type: type[CommonSettings],
    ctx: click.Context,
    _param: click.Parameter,
    path: str | None,
) -> None:
    if path and not ctx.resilient_parsing:
        try:
            ctx.default_map = {**load_config(path, settings_of(settings_type))}
        except SettingError as error:
            put_by(ctx, error)


def _epilog(prefix: str, examples: Sequence[str]) -> str:
    lines = ["[bold]Examples[/]", *(f"[cyan]{line}[/]" for line in examples)] if examples else []
    lines += [
        "[dim]Each flag is also an environment variable and a key of the --config file:"
        f' --log-level is {prefix}LOG_LEVEL=debug and log-level = "debug".'
        " A flag wins over the environment, and that over the file.[/]"
    ]
    return "\n\n".join(lines)
