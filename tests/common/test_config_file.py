from pathlib import Path

import pytest

from common.config_file import load_config
from common.errors import SettingError
from common.setting_fields import settings_of
from entry_point.settings import EntryPointSettings


def load(path: Path, text: str | bytes) -> dict[str, object]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return {**load_config(str(path), settings_of(EntryPointSettings))}


GOOD = {"routes": ("1:2", "3:4"), "group_id": "7", "wait": 5.0, "pool": 4}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", 'routes = ["1:2", "3:4"]\ngroup-id = 7\nwait = 5\npool = 4'),
        ("c.toml", '\ufeffroutes = "1:2,3:4"\ngroup_id = "7"\nwait = 5.0\npool = 4'),
        ("c.json", '{"routes": ["1:2,3:4"], "group-id": 7, "wait": 5, "pool": 4}'),
        ("c.conf", ' {"routes": ["1:2", "3:4"], "group-id": "7", "wait": 5, "pool": 4}'),
        ("c.conf", 'routes = ["1:2", "3:4"]\ngroup-id = 7\nwait = 5\npool = 4'),
    ],
)
def test_good_files(tmp_path: Path, name: str, text: str) -> None:
    values = load(tmp_path / name, text)
    assert values == GOOD
    assert type(values["wait"]) is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rutes = '1:2'", "unknown key 'rutes'; did you mean 'routes'?"),
        ("Routes = '1:2'", "unknown key 'Routes'; did you mean 'routes'?"),
        ("server_adress = 'a:1'", "unknown key 'server_adress'; did you mean 'server-address'?"),
        ("group-id = 1\ngroup_id = 2", "'group-id' is there twice; keep one of them"),
        ("pool = '4'", "pool: '4' is not a whole number from 1 to 65536"),
        ("pool = 0", "pool: 0 is not a whole number from 1 to 65536"),
        ("pool = true", "pool: True is not a whole number from 1 to 65536"),
        ("pool = 4.0", "pool: 4.0 is not a whole number from 1 to 65536"),
        ("wait = '5s'", "wait: '5s' is not a number of seconds from 0 to 86400"),
        ("wait = nan", "wait: nan is not a number of seconds from 0 to 86400"),
        ("routes = 5", "routes: 5 is not text, or a list of texts"),
        ("routes = [5]", "routes: 5 is not text, or a list of texts"),
        ("bind = 5", "bind: 5 is not text"),
        ("group-id = true", "group-id: True is not text"),
        ("[pool]\nsize = 1", "pool: {'size': 1} is not a whole number from 1 to 65536"),
        (
            "log-level = 'Info'",
            "log-level: 'Info' is not one of debug, info, warning, error; did you mean 'info'?",
        ),
        (
            "routes = []",
            "routes: the list is empty; for example -r 5001:5001 (listen on port 5001, lead to"
            " port 5001 beside the reverse-proxy)",
        ),
    ],
)
def test_errors_name_file_key_value_and_reason(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.toml"
    with pytest.raises(SettingError) as caught:
        load(path, text)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.toml", "pool = = 1", "not TOML: Invalid value (at line 1, column 8)"),
        ("c.json", '{"pool": }', "not JSON: JSON is malformed: invalid character (byte 9)"),
        ("c.json", "[1]", 'the config file must be one JSON object: {"key": value, …}'),
        ("c.toml", b"bind = '\xff'", "byte 8 is not UTF-8; save the config file as UTF-8"),
    ],
)
def test_files_that_do_not_parse(
    tmp_path: Path, name: str, text: str | bytes, message: str
) -> None:
    with pytest.raises(SettingError) as caught:
        load(tmp_path / name, text)
    assert str(caught.value) == f"{tmp_path / name}: {message}"


def test_a_wholly_unknown_key_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="unknown key 'zzzz'; known are routes, bind, wait, "):
        load(tmp_path / "c.toml", "zzzz = 1")


def test_a_missing_file() -> None:
    with pytest.raises(SettingError) as caught:
        load_config("/nowhere/c.toml", ())
    assert str(caught.value) == (
        "/nowhere/c.toml: cannot read the config file: No such file or directory; check --config"
    )
