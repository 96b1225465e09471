from __future__ import annotations

import sys
from types import ModuleType

import pytest

from common.cli import run_cli
from relay_server.__main__ import main
from relay_server.cli import PROGRAM, build
from relay_server.settings import RelaySettings


def test_the_app_gets_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[RelaySettings] = []

    def run(settings: RelaySettings) -> int:
        seen.append(settings)
        return 7

    app = ModuleType("relay_server.app")
    monkeypatch.setattr(app, "run", run, raising=False)
    monkeypatch.setitem(sys.modules, "relay_server.app", app)
    monkeypatch.setenv("RELAY_SERVER_SERVER_CERT", "my.crt")
    args = ["-p", "0", "-k", "my.key", "-a", "keys", "--host", "*", "--heartbeat", "1"]
    assert run_cli(build(), PROGRAM, args) == 7
    assert seen == [
        RelaySettings(
            port=0,
            host="*",
            server_cert="my.crt",
            server_key="my.key",
            auth_public_key="keys",
            heartbeat=1.0,
        )
    ]


def test_main(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["relay-server", "--port", "70000"])
    assert main() == 2
    assert capfd.readouterr().err == (
        "relay-server: error: --port: 70000 is not a whole number from 0 to 65535\n"
    )


def test_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_cli(build(), PROGRAM, ["--help"]) == 0
    out = capfd.readouterr().out
    headings = ["Listening", "Keys and certificates", "Tuning", "Logs and metrics", "Running"]
    assert sorted(headings, key=out.index) == headings
    assert "[default: 4433]" in out
