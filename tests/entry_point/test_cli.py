from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from common.cli import run_cli
from entry_point.__main__ import main
from entry_point.cli import PROGRAM, build
from entry_point.settings import EntryPointSettings


def test_the_app_gets_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[EntryPointSettings] = []

    def run(settings: EntryPointSettings) -> int:
        seen.append(settings)
        return 0

    app = ModuleType("entry_point.app")
    monkeypatch.setattr(app, "run", run, raising=False)
    monkeypatch.setitem(sys.modules, "entry_point.app", app)
    args = ["-s", "a:1", "-r", "1:2,3:4", "-r", "[::1]:5:6", "--bind", "::1", "--wait", "0"]
    assert run_cli(build(), PROGRAM, args) == 0
    assert seen == [
        EntryPointSettings(
            server_address=("a:1",), routes=("1:2", "3:4", "[::1]:5:6"), bind="::1", wait=0.0
        )
    ]


@pytest.mark.parametrize("args", [[], ["explain"]])
def test_routes_are_required(
    args: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["entry-point", *args])
    assert main() == 2
    assert capfd.readouterr().err == (
        "entry-point: error: --routes is missing; for example -r 5001:5001 (listen on port 5001,"
        " lead to port 5001 beside the reverse-proxy)\n"
    )


@pytest.mark.parametrize("source", ["after", "before", "environment", "config"])
def test_explain_takes_routes_from_anywhere(
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    args = ["explain"]
    if source == "after":
        args = ["-r", "9:9", "explain", "-r", "5001:6001", "-r", "5002:6002"]
    elif source == "before":
        args = ["-r", "5001:6001,5002:6002", "explain"]
    elif source == "environment":
        monkeypatch.setenv("ENTRY_POINT_ROUTES", "5001:6001,5002:6002")
    else:
        (tmp_path / "c.toml").write_text('routes = ["5001:6001", "5002:6002"]')
        args = ["--config", str(tmp_path / "c.toml"), "explain"]
    assert run_cli(build(), PROGRAM, args) == 0
    out = capfd.readouterr().out
    assert out.index("5001:6001") < out.index("5002:6002")
    assert "9:9" not in out


def test_explain_refuses_what_is_no_route(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_cli(build(), PROGRAM, ["explain", "-r", "x:y"]) == 2
    assert capfd.readouterr().err.startswith("entry-point: error: 'x:y'")
