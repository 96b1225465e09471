"""How one setting is declared, and what its values may be.

A program's settings are a ``msgspec.Struct`` whose fields are ``Annotated[type, Option(…)]``. From
that one declaration come the flag (``--server-cert``), the environment variable
(``RELAY_SERVER_SERVER_CERT``), the config key (``server-cert``), the help text and the checks:
nothing is written twice, so nothing can go to the wrong field.
"""

from __future__ import annotations

import functools
import itertools
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

from common.errors import SettingError

Value = str | int | float | tuple[str, ...]
Kind = Literal["text", "whole", "seconds", "choice", "list"]

_MOST_DIGITS = 12  # longer ones are out of every range, and int() refuses 4,300 with another error

_BEYOND = 2**63

_KINDS: dict[object, Kind] = {str: "text", int: "whole", float: "seconds", tuple[str, ...]: "list"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What the type of a field does not say; the metadata of ``Annotated[type, Option(…)]``.

    Args:
        help: one or two sentences for ``--help``.
        panel: the heading under which ``--help`` shows it.
        short: a one-letter flag with its dash (``"-p"``), or nothing.
        metavar: the word for the value (``"PORT"``).
        low, high: the smallest and the largest number allowed, both included.
        default_text: how ``--help`` shows the default where the value itself says too little.
        example: for a setting without a default: the flags to write, shown when it is missing.
        number_ok: a config file may give a bare number for this text (``group-id = 0``).
        path: the value names a file; shells complete file names.
    """

    help: str
    panel: str = "Options"
    short: str = ""
    metavar: str = "TEXT"
    low: float = 0
    high: float = 2**31 - 1
    default_text: str = ""
    example: str = ""
    number_ok: bool = False
    path: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a settings struct, resolved. Made by :func:`settings_of`.

    Args:
        name: the field's name, such as ``server_cert``.
        kind: what its values are: ``text``, ``whole`` (int), ``seconds`` (float), ``choice`` (one
            of ``choices``) or ``list`` (a tuple of texts).
        choices: the allowed words of a ``choice``.
        default: the value when nothing is given, or ``None`` for a setting that must be given.
        option: the rest of the declaration.
    """

    name: str
    kind: Kind
    choices: tuple[str, ...]
    default: Value | None
    option: Option

    @property
    def key(self) -> str:
        """The name in config files: ``server-cert``."""
        return self.name.replace("_", "-")

    @property
    def flag(self) -> str:
        """The long flag: ``--server-cert``."""
        return f"--{self.key}"

    def env(self, prefix: str) -> str:
        """The environment variable, with the program's ``prefix`` such as ``RELAY_SERVER_``."""
        return f"{prefix}{self.name.upper()}"

    @property
    def expected(self) -> str:
        """What a value must be, as the end of a sentence."""
        option = self.option
        if self.kind == "choice":
            return f"one of {', '.join(self.choices)}"
        if self.kind == "whole":
            return f"a whole number from {option.low:g} to {option.high:.0f}"
        if self.kind == "seconds":
            return f"a number of seconds from {option.low:g} to {option.high:g}"
        return "text" if self.kind == "text" else "text, or a list of texts"

    def parse(self, text: str, where: str) -> Value:
        """Make a value from the text of a flag or an environment variable.

        Args:
            text: as the user wrote it.
            where: what to name in an error: ``--port`` or ``RELAY_SERVER_PORT``.

        Raises:
            SettingError: the text is not such a value, or is out of range.
        """
        value: object = text
        if self.kind == "whole":
            digits = text.strip()
            bare = digits.removeprefix("-")
            if bare.isascii() and bare.isdecimal() and len(bare) <= _MOST_DIGITS:
                value = int(digits)
        elif self.kind == "seconds":
            try:
                value = float(text)
            except ValueError:
                value = text
        return self.fit(value, where)

    def fit(self, value: object, where: str) -> Value:
        """Check a typed value (from a config file, or from code) and return it as the field's type.

        Raises:
            SettingError: a value of another type, out of range, empty, or not one of the choices.
        """
        if self.kind == "list":
            return self._fit_list(value, where)
        number = (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and abs(value) < _BEYOND  # a longer one makes float() and str() fail; nan is not below
        )
        if number and self.option.number_ok:
            return str(value)
        if self.kind == "whole" and number and isinstance(value, int):
            if self.option.low <= value <= self.option.high:
                return value
        elif self.kind == "seconds" and number:
            seconds = float(typing.cast("float", value))
            if self.option.low <= seconds <= self.option.high:
                return seconds
        elif self.kind == "choice" and value in self.choices:
            return str(value)
        elif self.kind == "text" and isinstance(value, str):
            if value or self.default == "":
                return value
            raise SettingError(f"{where}: is empty; give a value, or leave it out for the default")
        near = did_you_mean(value, self.choices) if isinstance(value, str) else ""
        raise SettingError(f"{where}: {_shown(value)} is not {self.expected}{near}")

    def _fit_list(self, value: object, where: str) -> tuple[str, ...]:
        out: list[str] = []
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, str):
                out += _split(item, where)
            else:
                raise SettingError(f"{where}: {_shown(item)} is not {self.expected}")
        if not out:
            raise SettingError(f"{where}: the list is empty; {self._instead}")
        return tuple(out)

    @property
    def _instead(self) -> str:
        if self.option.example:
            return f"for example {self.option.example}"
        return "give at least one, or leave it out for the default"

    def missing(self) -> SettingError:
        """The error for a setting without a default that nobody gave."""
        return SettingError(f"{self.flag} is missing; for example {self.option.example}")


def _shown(value: object) -> str:
    try:
        return repr(value)
    except ValueError:  # TOML has whole numbers of any length; Python shows 4,300 digits
        return "a number that is too long"


def _split(text: str, where: str) -> list[str]:
    """``"a, b"`` -> ``["a", "b"]``. An empty item is an error: dropping it could turn a list that
    restricts, written as an unset variable, into no list at all."""
    items = [item.strip() for item in text.split(",")]
    if not all(items):
        raise SettingError(
            f"{where}: {text!r} has an empty item; remove the comma, or leave the setting out"
        )
    return items


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'port'?"`` for a near miss, otherwise an empty string."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


@functools.cache
def settings_of(settings_type: type[msgspec.Struct]) -> tuple[Setting, ...]:
    """Every setting of a struct, the program's own before those it inherits.

    Raises:
        TypeError: a field without an :class:`Option`, of a type no setting can have, or without
            both a default and an example: a mistake in the declaration.
    """
    hints = typing.get_type_hints(settings_type, include_extras=True)
    defaults = {field.name: field.default for field in msgspec.structs.fields(settings_type)}
    own_first: dict[str, None] = {}
    lineage = [owner for owner in settings_type.__mro__ if issubclass(owner, msgspec.Struct)]
    for owner, parent in itertools.pairwise(lineage):
        inherited = getattr(parent, "__struct_fields__", ())
        own_first |= dict.fromkeys(n for n in owner.__struct_fields__ if n not in inherited)
    return tuple(_resolve(name, hints[name], defaults[name]) for name in own_first)


def _resolve(name: str, hint: object, default: object) -> Setting:
    base, *extras = typing.get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
    option = next((extra for extra in extras if isinstance(extra, Option)), None)
    choices = typing.get_args(base) if typing.get_origin(base) is Literal else ()
    kind = "choice" if choices else _KINDS.get(base)
    if option is None or kind is None:
        raise TypeError(f"{name}: write Annotated[str | int | float | …, Option(…)], not {hint!r}")
    if default is msgspec.NODEFAULT:
        if not option.example:
            raise TypeError(f"{name}: a setting without a default needs an example")
        default = None
    return Setting(name, kind, choices, typing.cast("Value | None", default), option)
