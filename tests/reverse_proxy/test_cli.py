from __future__ import annotations

import sys
from types import ModuleType

import pytest

from common.cli import run_cli
from reverse_proxy.__main__ import main
from reverse_proxy.cli import PROGRAM, build
from reverse_proxy.settings import ReverseProxySettings


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[ReverseProxySettings]:
    """What the program is started with."""
    seen: list[ReverseProxySettings] = []

    def run(settings: ReverseProxySettings) -> int:
        seen.append(settings)
        return 0

    app = ModuleType("reverse_proxy.app")
    monkeypatch.setattr(app, "run", run, raising=False)
    monkeypatch.setitem(sys.modules, "reverse_proxy.app", app)
    return seen


def test_the_app_gets_the_settings(
    seen: list[ReverseProxySettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVERSE_PROXY_SERVER_ADDRESS", "a:1,b:2")
    args = ["-c", "system", "-a", "id", "-t", "keys", "-g", "office", "--pool", "2"]
    assert run_cli(build(), PROGRAM, [*args, "--allow", "10.0.0.0/8:443", "--allow", "c:1"]) == 0
    assert seen == [
        ReverseProxySettings(
            server_address=("a:1", "b:2"),
            server_cert="system",
            auth_private_key="id",
            trusted_keys="keys",
            group_id="office",
            pool=2,
            allow=("10.0.0.0/8:443", "c:1"),
        )
    ]


def test_an_allow_list_that_fell_out_does_not_allow_everything(
    seen: list[ReverseProxySettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVERSE_PROXY_ALLOW", "")
    assert run_cli(build(), PROGRAM, []) == 2
    assert seen == []


def test_main(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["reverse-proxy", "-g", ""])
    assert main() == 2
    assert capfd.readouterr().err == (
        "reverse-proxy: error: --group-id: is empty; give a value, or leave it out for the"
        " default\n"
    )
