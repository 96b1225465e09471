from typing import Annotated

import msgspec
import pytest

from common.errors import SettingError
from common.setting_fields import Option, Setting, settings_of
from common.settings import ClientSettings, CommonSettings
from entry_point.settings import EntryPointSettings
from relay_server.settings import RelaySettings
from reverse_proxy.settings import ReverseProxySettings


def by_flag(settings_type: type[CommonSettings]) -> dict[str, Setting]:
    return {setting.flag: setting for setting in settings_of(settings_type)}


COMMON = {
    "--log-level": ("", "info"),
    "--log-format": ("", "text"),
    "--metrics": ("", ""),
    "--grace": ("", 10.0),
    "--event-loop": ("", "auto"),
}
CLIENT = COMMON | {
    "--server-address": ("-s", ("localhost:4433",)),
    "--server-cert": ("-c", "cert/server.crt"),
    "--auth-private-key": ("-a", "cert/auth"),
    "--trusted-keys": ("-t", ""),
    "--group-id": ("-g", "0"),
    "--pool": ("", 8),
    "--max-channels": ("", 4096),
    "--pool-linger": ("", 30.0),
}


@pytest.mark.parametrize(
    ("settings_type", "table"),
    [
        (
            RelaySettings,
            COMMON
            | {
                "--host": ("", ""),
                "--port": ("-p", 4433),
                "--server-cert": ("-c", "cert/server.crt"),
                "--server-key": ("-k", "cert/server.key"),
                "--auth-public-key": ("-a", "cert/auth.pub"),
                "--forwarder": ("", "auto"),
                "--heartbeat": ("", 10.0),
                "--public-host": ("", ""),
                "--domain": ("", ""),
                "--http-port": ("", -1),
                "--https-port": ("", -1),
                "--https-cert": ("", ()),
                "--https-key": ("", ()),
                "--reserve": ("", 600.0),
                "--max-visitors": ("", 8192),
                "--udp-idle": ("", 60.0),
            },
        ),
        (
            ReverseProxySettings,
            CLIENT
            | {
                "--allow": ("", ()),
                "--expose": ("-e", ()),
                "--http": ("", ()),
                "--https": ("", ()),
                "--hold": ("", 0.0),
                "--visitors-file": ("", ""),
            },
        ),
        (
            EntryPointSettings,
            CLIENT
            | {
                "--routes": ("-r", None),
                "--bind": ("", ""),
                "--wait": ("", 10.0),
                "--udp-idle": ("", 60.0),
            },
        ),
    ],
)
def test_flags_and_defaults(
    settings_type: type[CommonSettings], table: dict[str, tuple[str, object]]
) -> None:
    declared = {f: (s.option.short, s.default) for f, s in by_flag(settings_type).items()}
    assert declared == table


def test_own_settings_come_first() -> None:
    assert next(iter(by_flag(EntryPointSettings))) == "--routes"
    assert list(by_flag(RelaySettings))[-5:] == list(by_flag(CommonSettings))


def test_names_are_made_from_the_field() -> None:
    setting = by_flag(RelaySettings)["--server-cert"]
    assert setting.key == "server-cert"
    assert setting.env("RELAY_SERVER_") == "RELAY_SERVER_SERVER_CERT"


@pytest.mark.parametrize(
    ("flag", "text", "value"),
    [
        ("--port", "0", 0),
        ("--port", " 65535 ", 65535),
        ("--grace", "0", 0.0),
        ("--grace", "1.5", 1.5),
        ("--log-level", "debug", "debug"),
        ("--host", "", ""),
        ("--host", "*", "*"),
    ],
)
def test_good_text(flag: str, text: str, value: object) -> None:
    parsed = by_flag(RelaySettings)[flag].parse(text, flag)
    assert parsed == value
    assert type(parsed) is type(value)


def test_lists() -> None:
    setting = by_flag(EntryPointSettings)["--routes"]
    assert setting.parse("1:2, 3:4", "-r") == ("1:2", "3:4")
    assert setting.fit(["1:2", "3:4,5:6"], "-r") == ("1:2", "3:4", "5:6")


PORT = "--port: {} is not a whole number from 0 to 65535"
GRACE = "--grace: {} is not a number of seconds from 0 to 86400"


@pytest.mark.parametrize(
    ("flag", "text", "message"),
    [
        ("--port", "http", PORT.format("'http'")),
        ("--port", "70000", PORT.format("70000")),
        ("--port", "-1", PORT.format("-1")),
        ("--port", "4_433", PORT.format("'4_433'")),
        ("--port", "", PORT.format("''")),
        ("--port", "9" * 5000, PORT.format(repr("9" * 5000))),
        ("--grace", "-1", GRACE.format("-1.0")),
        ("--grace", "nan", GRACE.format("nan")),
        ("--grace", "inf", GRACE.format("inf")),
        ("--grace", "10s", GRACE.format("'10s'")),
        (
            "--log-level",
            "warn",
            "--log-level: 'warn' is not one of debug, info, warning, error;"
            " did you mean 'warning'?",
        ),
        ("--forwarder", "x", "--forwarder: 'x' is not one of auto, splice, copy"),
        (
            "--server-cert",
            "",
            "--server-cert: is empty; give a value, or leave it out for the default",
        ),
    ],
)
def test_bad_text(flag: str, text: str, message: str) -> None:
    with pytest.raises(SettingError) as caught:
        by_flag(RelaySettings)[flag].parse(text, flag)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RelaySettings(port=70000), PORT.format(70000)),
        (lambda: RelaySettings(port=True), PORT.format(True)),
        (lambda: RelaySettings(heartbeat=0.0), None),
        (
            lambda: EntryPointSettings(routes=()),
            "--routes: the list is empty; for example -r 5001:5001 (listen on port 5001, lead to"
            " port 5001 beside the reverse-proxy)",
        ),
        (
            lambda: ClientSettings(server_address=()),
            "--server-address: the list is empty; give at least one, or leave it out for the"
            " default",
        ),
        (
            lambda: ReverseProxySettings(allow=("a", "")),
            "--allow: '' has an empty item; remove the comma, or leave the setting out",
        ),
        (
            lambda: ClientSettings(pool=5000),
            "--pool: 5000 is more than --max-channels 4096; write --max-channels 5000 or more",
        ),
    ],
)
def test_structs_check_themselves(make: object, message: str | None) -> None:
    assert callable(make)
    with pytest.raises(SettingError) as caught:
        make()
    assert message is None or str(caught.value) == message


def test_all_addresses() -> None:
    assert RelaySettings().all_addresses
    assert RelaySettings(host="*").all_addresses
    assert not RelaySettings(host="::1").all_addresses
    assert EntryPointSettings(routes=("1:2",), bind="*").all_addresses


class NoOption(msgspec.Struct):
    name: str = ""


class BadType(msgspec.Struct):
    names: Annotated[dict[str, str], Option(help="x")] = msgspec.field(default_factory=dict)


class NoExample(msgspec.Struct):
    name: Annotated[str, Option(help="x")]


@pytest.mark.parametrize("declaration", [NoOption, BadType, NoExample])
def test_mistakes_in_a_declaration_are_found(declaration: type[msgspec.Struct]) -> None:
    with pytest.raises(TypeError, match="name"):
        settings_of(declaration)
