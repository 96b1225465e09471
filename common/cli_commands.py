"""What every program's command line has: ``version``, ``completion``, and one way to fail."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import rich_click as click

from common.errors import UsageError
from common.logs import print_error

DISTRIBUTION = "tcp-relay-suite"
SHELLS = ("bash", "zsh", "fish")
COMMANDS_PANEL = "Commands"

_INSTALL = {
    "bash": "echo 'eval \"$({program} completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$({program} completion zsh)\"' >> ~/.zshrc   (after compinit)",
    "fish": "{program} completion fish > ~/.config/fish/completions/{program}.fish",
}


def version() -> str:
    """The version of the installed distribution, such as ``0.1.0``."""
    from importlib import metadata

    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"


def add_common_commands(group: click.RichGroup, program: str) -> None:
    """Add ``--version``, ``-h/--help``, ``version`` and ``completion SHELL`` to a group."""
    group.context_settings["help_option_names"] = ["-h", "--help"]
    group.params.append(
        click.RichOption(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=lambda ctx, _param, wanted: _print_version(ctx, program) if wanted else None,
            help="Show the version and exit.",
        )
    )
    group.add_command(
        click.RichCommand(
            name="version",
            callback=lambda: _print_details(program),
            help="Show the version, and the versions of what matters for a bug report.",
        )
    )
    group.add_command(
        click.RichCommand(
            name="completion",
            callback=lambda shell: _print_completion(group, program, shell),
            params=[click.RichArgument(["shell"], type=click.Choice(SHELLS))],
            help=f"Print a script that makes a shell complete the arguments of {program}.",
        )
    )


def run_cli(group: click.Command, program: str, args: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit status of the process.

    Args:
        group: the command; its callbacks return the status, or ``None`` for 0.
        program: the name that messages begin with.
        args: the arguments, or ``None`` for those of this process.

    Returns:
        What the callback returned. 2 after a :class:`UsageError` or a wrong command line, which is
        one line on stderr, without a traceback. 130 when the user interrupted a prompt.
    """
    try:
        status = group.main(args, prog_name=program, standalone_mode=False)
    except UsageError as error:
        print_error(program, str(error))
        return 2
    except click.Abort:
        print_error(program, "interrupted")
        return 130
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        path = context.command_path if context else program
        message = " ".join(error.format_message().split())  # click breaks some lines
        stop = "" if message.endswith((".", "?", ")")) else "."
        print_error(program, f"{message}{stop} Try '{path} --help'.")
        return 2
    return status if isinstance(status, int) else 0


def _print_version(ctx: click.Context, program: str) -> None:
    if not ctx.resilient_parsing:
        click.echo(f"{program} {version()}")
        ctx.exit()


def _print_details(program: str) -> None:
    import platform
    import ssl

    click.echo(f"{program} {version()}")
    click.echo(f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}, {platform.platform()}")
    click.echo(f"from {sys.prefix}")


def _print_completion(group: click.Command, program: str, shell: str) -> None:
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:  # pragma: no cover - click has all of SHELLS
        raise UsageError(f"no completion for {shell!r}; choose one of {', '.join(SHELLS)}")
    variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
    script = kind(group, {}, program, variable)
    # Not script.source(): for bash it runs a bash to look at its version.
    click.echo((script.source_template % script.source_vars()).rstrip())
    click.echo(f"\n# To install it: {_INSTALL[shell].format(program=program)}")
