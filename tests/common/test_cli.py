from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
import rich_click as click

from common.cli import build_program, env_prefix, run_cli, settings_from
from common.cli_commands import SHELLS, add_common_commands, version
from common.errors import KeyFileError
from common.setting_fields import Option
from common.settings import CommonSettings

PROGRAM = "tiny-tool"


class Tiny(CommonSettings, kw_only=True, frozen=True):
    port: Annotated[int, Option(help="A port.", short="-p", metavar="PORT", high=65535)] = 1
    wait: Annotated[float, Option(help="A time.", high=60)] = 1.5
    name: Annotated[str, Option(help="A name.", number_ok=True)] = "default"
    mode: Annotated[Literal["fast", "slow"], Option(help="A mode.")] = "fast"
    items: Annotated[tuple[str, ...], Option(help="A list.", short="-i")] = ("a", "b")
    needed: Annotated[str, Option(help="Needed.", short="-n", example="-n 5")]


class Cli:
    """The command line, run in this process."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self.capfd = capfd
        self.seen: list[Tiny] = []
        self.status = 0
        self.group = build_program(PROGRAM, Tiny, self._run, "A tool.", examples=["tiny-tool -n 5"])

    def _run(self, settings: Tiny) -> int:
        self.seen.append(settings)
        return self.status

    def settings(self, *args: str) -> Tiny:
        """What the program is started with."""
        assert run_cli(self.group, PROGRAM, [*args, "-n", "5"]) == 0, self.capfd.readouterr().err
        return self.seen.pop()

    def error(self, *args: str) -> str:
        """What a command line that is wrong says: one line, without the program's name."""
        assert run_cli(self.group, PROGRAM, args) == 2
        out, err = self.capfd.readouterr()
        assert (out, self.seen) == ("", [])
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert err.startswith("tiny-tool: error: ")
        return err.removeprefix("tiny-tool: error: ").rstrip("\n")

    def output(self, *args: str) -> str:
        assert run_cli(self.group, PROGRAM, args) == 0
        return self.capfd.readouterr().out


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capfd)


def test_defaults_come_from_the_struct(cli: Cli) -> None:
    assert cli.settings() == Tiny(needed="5")


@pytest.mark.parametrize(
    ("field", "flags", "env", "config", "values"),
    [
        ("port", ["-p", "4"], "3", "port = 2", (4, 3, 2, 1)),
        ("wait", ["--wait", "4.5"], "3", "wait = 2", (4.5, 3.0, 2.0, 1.5)),
        ("name", ["--name", "x"], "y", "name = 7", ("x", "y", "7", "default")),
        ("mode", ["--mode", "slow"], "fast", "mode = 'slow'", ("slow", "fast", "slow", "fast")),
        (
            "items",
            ["-i", "p,q", "--items", "r"],
            "s, t",
            "items = ['u', 'v']",
            (("p", "q", "r"), ("s", "t"), ("u", "v"), ("a", "b")),
        ),
        (
            "items",
            ["-i", "p"],
            "s",
            "items = 'u,v'",
            (("p",), ("s",), ("u", "v"), ("a", "b")),
        ),
        ("log_level", ["--log-level=error"], "debug", "log-level='warning'", None),
    ],
)
def test_flag_before_environment_before_config_before_default(
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    field: str,
    flags: list[str],
    env: str,
    config: str,
    values: tuple[object, ...] | None,
) -> None:
    (tmp_path / "c.toml").write_text(config)
    file = ["--config", str(tmp_path / "c.toml")]
    variable = f"TINY_TOOL_{field.upper()}"
    seen = [getattr(cli.settings(), field), getattr(cli.settings(*file), field)]
    monkeypatch.setenv(variable, env)
    seen += [getattr(cli.settings(*file), field), getattr(cli.settings(*flags, *file), field)]
    assert tuple(seen[::-1]) == (values or ("error", "debug", "warning", "info"))


def test_the_config_file_itself_may_come_from_the_environment(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.json").write_text('{"port": 9}')
    monkeypatch.setenv("TINY_TOOL_CONFIG", str(tmp_path / "c.json"))
    assert cli.settings().port == 9


def test_an_empty_variable_is_an_unset_one(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_TOOL_PORT", "")
    assert cli.settings().port == 1


def test_an_empty_list_in_the_environment_is_not(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_TOOL_ITEMS", "")
    assert cli.error("-n", "5") == (
        "TINY_TOOL_ITEMS: '' has an empty item; remove the comma, or leave the setting out"
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-p", "x"], "--port: 'x' is not a whole number from 0 to 65535"),
        (["--wait=61"], "--wait: 61.0 is not a number of seconds from 0 to 60"),
        (["--mode", "slov"], "--mode: 'slov' is not one of fast, slow; did you mean 'slow'?"),
        (["-i", "a,,b"], "--items: 'a,,b' has an empty item; remove the comma, or leave the"),
        ([], "--needed is missing; for example -n 5"),
        (
            ["--prot", "1"],
            "No such option '--prot'. Did you mean '--port'? Try 'tiny-tool --help'.",
        ),
        (["start"], "No such command 'start'. Try 'tiny-tool --help'."),
        (["-p"], "Option '-p' requires an argument. Try 'tiny-tool --help'."),
        (["completion"], "Missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish. Try"),
        (["--config", "/nowhere"], "/nowhere: cannot read the config file: No such file"),
        (["-p", "\x1b[2J"], r"--port: '\x1b[2J' is not a whole number"),
    ],
)
def test_errors(cli: Cli, args: list[str], message: str) -> None:
    assert cli.error(*args).startswith(message)


def test_errors_of_the_environment_and_the_file_name_them(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "c.toml"
    config.write_text("prot = 1")
    assert cli.error("--config", str(config)) == (
        f"{config}: unknown key 'prot'; did you mean 'port'?"
    )
    config.write_text("port = '1'")
    assert cli.error("--config", str(config), "-p", "1") == (
        f"{config}: port: '1' is not a whole number from 0 to 65535"
    )
    monkeypatch.setenv("TINY_TOOL_PORT", "x")
    assert cli.error() == "TINY_TOOL_PORT: 'x' is not a whole number from 0 to 65535"


def test_the_status_is_that_of_the_program(cli: Cli) -> None:
    cli.status = 3
    assert run_cli(cli.group, PROGRAM, ["-n", "5"]) == 3


def test_help(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERMINAL_WIDTH", "100")
    long = cli.output("--help")
    assert long == cli.output("-h")
    assert " A port. [default: 1]" in long
    assert "[default: a,b]" in long
    assert "[default: 1.5]" in long
    assert "Needed. " in long
    assert "Logs and metrics" in long
    assert "tiny-tool -n 5" in long
    assert "TINY_TOOL_LOG_LEVEL=debug" in long
    assert "Print a script" in long


def test_version(cli: Cli) -> None:
    line = f"tiny-tool {version()}"
    assert cli.output("--version") == f"{line}\n"
    first, second, *_ = cli.output("version").splitlines()
    assert first == line
    assert "Python 3." in second
    assert "OpenSSL" in second
    assert cli.seen == []


def test_subcommands_get_the_settings(cli: Cli) -> None:
    @click.pass_context
    def show(ctx: click.Context) -> None:
        settings = settings_from(ctx, Tiny, needed="7", name=None)
        click.echo(f"{settings.port} {settings.needed} {settings.name}")

    cli.group.add_command(click.RichCommand(name="show", callback=show))
    assert cli.output("-p", "9", "--name", "n", "show") == "9 7 n\n"
    assert cli.seen == []


def test_any_group_can_have_the_common_commands(capfd: pytest.CaptureFixture[str]) -> None:
    group = click.RichGroup(name="other")
    add_common_commands(group, "other")

    def fail() -> None:
        raise KeyFileError("cert/auth: others can read it\nrun chmod 600 cert/auth")

    def interrupt() -> None:
        raise KeyboardInterrupt

    group.add_command(click.RichCommand(name="fail", callback=fail))
    group.add_command(click.RichCommand(name="interrupt", callback=interrupt))
    assert run_cli(group, "other", ["fail"]) == 2
    assert capfd.readouterr().err == (
        "other: error: cert/auth: others can read it\\nrun chmod 600 cert/auth\n"
    )
    assert run_cli(group, "other", ["interrupt"]) == 130
    assert capfd.readouterr().err.strip() == "other: error: interrupted"
    assert run_cli(group, "other", ["version"]) == 0


def test_env_prefix() -> None:
    assert env_prefix("relay-server") == "RELAY_SERVER_"


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_scripts_say_how_to_install_them(cli: Cli, shell: str) -> None:
    script = cli.output("completion", shell)
    assert "_TINY_TOOL_COMPLETE" in script
    assert script.splitlines()[-1].startswith("# To install it: ")
    assert "tiny-tool" in script.splitlines()[-1]
    if shell == "zsh":
        assert script.startswith("#compdef tiny-tool\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_accept_the_script(cli: Cli, tmp_path: Path, shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    (tmp_path / "script").write_text(cli.output("completion", shell))
    subprocess.run([shell, "-n", str(tmp_path / "script")], check=True, timeout=30)


def complete_in_bash(program: str, *words: str) -> list[str]:
    """What bash offers for the last of ``words``, with the real program and its real script."""
    quoted = " ".join(f"'{word}'" for word in (program, *words))
    script = (
        f'eval "$({program} completion bash)"; COMP_WORDS=({quoted}); COMP_CWORD={len(words)};'
        " compopt() { COMPREPLY+=(FILES); };"
        f' _{program.replace("-", "_")}_completion {program}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    run = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={"PATH": path, "RELAY_SERVER_PORT": "not a port"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert run.stderr == ""
    return run.stdout.splitlines()


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["--log-"], ["--log-level", "--log-format"]),
        (["--log-level", "w"], ["warning"]),
        (["-p", "1", "--forwarder", ""], ["auto", "splice", "copy"]),
        (["comp"], ["completion"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["--server-cert", ""], ["FILES"]),
        (["--config", ""], ["FILES"]),
    ],
)
def test_bash_completes(words: list[str], offered: list[str]) -> None:
    if not (Path(sys.executable).parent / "relay-server").exists():
        pytest.skip("the programs are not installed")
    # The port's variable is wrong on purpose: `completion` and completing must work all the same.
    assert complete_in_bash("relay-server", *words) == offered


@pytest.mark.parametrize("command", ["version", "completion"])
def test_a_wrong_environment_does_not_stop_what_needs_no_settings(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("TINY_TOOL_PORT", "x")
    monkeypatch.setenv("TINY_TOOL_ITEMS", "a,,b")
    monkeypatch.setenv("TINY_TOOL_CONFIG", "/nowhere")
    assert cli.output(command, *(["bash"] if command == "completion" else []))
    assert cli.error().startswith("/nowhere: cannot read the config file")
