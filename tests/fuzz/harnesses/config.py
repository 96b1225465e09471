"""Settings, from a config file and from the text of a flag."""

from __future__ import annotations

import math
import tomllib
from typing import Final

from common.config_file import load_config
from common.errors import SettingError
from common.setting_fields import Setting, settings_of
from entry_point.settings import EntryPointSettings
from relay_server.settings import RelaySettings
from reverse_proxy.settings import ReverseProxySettings
from tests.fuzz.outcome import outcome
from tests.fuzz.scratch import Scratch

assert tomllib  # loaded here, so that it is instrumented: the product loads it when it needs it

PROGRAMS: Final = (EntryPointSettings, ReverseProxySettings, RelaySettings)
# The first byte: the program; from 128 on the rest is a flag's number and its text.
SEEDS: Final = (
    b'\x00server-address = ["a:1", "b:2"]\nroutes = ["5001:5001"]\nbind = "127.0.0.1"\n',
    b'\x00group-id = 0\npool = 8\ngrace = 1.5\nlog-format = "json"\n',
    b'\x01{"expose": ["80:80", "443:443,raw"], "hold": 2, "allow": "127.0.0.1:80"}',
    b'\x02port = 4433\nforwarder = "splice"\nheartbeat = 1e1\ndomain = "example.org"\n',
    b"\x02\xef\xbb\xbfport = 0x1151\nmetrics = ''\n",
    b'\x02{"port": 1, "port": 2, "server_cert": "a"}',
    b"\x00group-id = nan\ngrace = inf\nlog-level = 2000-01-01\nbind.a = 1\n",
    b"\x00grace = 0x" + b"f" * 300,
    b"\x00group-id = nan\n",
    b"\x80\x0112",
    b"\x82\x051.5",
    b"\x81\x09a, b",
)
WORDS: Final = (
    *(each.key.encode() for kind in PROGRAMS for each in settings_of(kind)),
    *(b" = ", b"[", b"]", b"{", b"}", b'"""', b"'", b'"', b"\n", b"0x", b"1e999", b"nan", b"inf"),
    *(b"true", b"null", b"-", b"9" * 20, b"[" * 40, b"{" * 40, b"0x" + b"f" * 300, b"9" * 400),
    *(b"1979-05-27T07:32:00Z", b"\\u", b"\\ud800", b"[[", b"#", b"\xef\xbb\xbf"),
)
FILE: Final = Scratch()


def check_value(setting: Setting, value: object) -> None:
    match setting.kind:
        case "whole":
            assert isinstance(value, int)
            assert setting.option.low <= value <= setting.option.high
        case "seconds":
            assert isinstance(value, float)
            assert math.isfinite(value)
            assert setting.option.low <= value <= setting.option.high
        case "choice":
            assert value in setting.choices
        case "list":
            assert isinstance(value, tuple)
            assert value
            assert all(each == each.strip() != "" for each in value)
        case _:
            assert isinstance(value, str)
    assert setting.fit(value, "again") == value


def check(data: bytes) -> None:
    if len(data) < 2:
        return
    settings = settings_of(PROGRAMS[data[0] % 128 % 3])
    if data[0] >= 128:
        setting = settings[data[1] % len(settings)]
        text = data[2:].decode("utf-8", "surrogateescape")
        value = outcome(SettingError, lambda: setting.parse(text, setting.flag))
        if isinstance(value, SettingError):
            assert str(value).startswith(f"{setting.flag}: ")
        else:
            check_value(setting, value)
        return
    FILE.write(data[1:])
    path = str(FILE.path)
    values = outcome(SettingError, lambda: load_config(path, settings))
    if isinstance(values, SettingError):
        assert str(values).startswith(f"{path}: ")
        return
    by_name = {each.name: each for each in settings}
    for name, each in values.items():
        check_value(by_name[name], each)
