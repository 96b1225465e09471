"""Settings from a TOML or JSON file, checked key by key.

Keys are flag names without their dashes; ``server-cert`` and ``server_cert`` are the same key.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from common.errors import SettingError
from common.setting_fields import Setting, Value, did_you_mean


def load_config(path: str, settings: Iterable[Setting]) -> dict[str, Value]:
    """Read ``path`` and return its values by field name, each of the type of its setting.

    ``.json`` is JSON and ``.toml`` is TOML; any other file is JSON when it begins with ``{``.

    Raises:
        SettingError: the file cannot be read or parsed, has a key that is no setting or is there
            twice, or a value that does not fit. The message names the file, the key, the value and
            the reason.
    """
    known = {setting.name: setting for setting in settings}
    values: dict[str, Value] = {}
    for key, value in _parse(path, _read(path)).items():
        name = key.replace("-", "_")
        if name not in known:
            keys = [setting.key for setting in known.values()]
            advice = did_you_mean(key.replace("_", "-"), keys) or f"; known are {', '.join(keys)}"
            raise SettingError(f"{path}: unknown key {key!r}{advice}")
        if name in values:
            raise SettingError(f"{path}: {known[name].key!r} is there twice; keep one of them")
        values[name] = known[name].fit(value, f"{path}: {key}")
    return values


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8-sig")  # editors on Windows write a BOM
    except OSError as error:
        raise SettingError(
            f"{path}: cannot read the config file: {error.strerror}; check --config"
        ) from error
    except UnicodeDecodeError as error:
        raise SettingError(
            f"{path}: byte {error.start} is not UTF-8; save the config file as UTF-8"
        ) from error


def _parse(path: str, text: str) -> dict[str, object]:
    suffix = path.rpartition(".")[2].lower()
    is_json = suffix == "json" or (suffix != "toml" and text.lstrip().startswith("{"))
    try:
        if is_json:
            document: object = msgspec.json.decode(text)
        else:
            import tomllib

            document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # both decoders'; they tell the line or byte
        language = "JSON" if is_json else "TOML"
        raise SettingError(f"{path}: not {language}: {error}") from error
    if not isinstance(document, dict):
        raise SettingError(f'{path}: the config file must be one JSON object: {{"key": value, …}}')
    return document
