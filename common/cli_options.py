"""Command line options made from settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.core import ParameterSource

from common.errors import SettingError
from common.setting_fields import Setting, Value

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_ERRORS = "common.cli_options.errors"


class SettingOption(click.RichOption):
    """The flag of one setting, which also reads its environment variable and its config key.

    Its value is the setting's, checked, or ``None`` when nobody gave one. Lists may be repeated.

    Args:
        setting: the declaration; everything but ``env`` and ``panel`` comes from it.
        env: the environment variable, or nothing for a flag that reads none.
        panel: the heading in ``--help``, instead of the setting's own.
    """

    def __init__(self, setting: Setting, env: str | None, panel: str | None = None) -> None:
        option = setting.option
        self.setting = setting
        super().__init__(
            [flag for flag in (option.short, setting.flag) if flag],
            type=_SettingType(setting, env),
            multiple=setting.kind == "list",
            callback=_join if setting.kind == "list" else None,
            metavar=option.metavar,
            help=f"{option.help}{_show_default(option.default_text or setting.default)}",
            envvar=env,
            panel=panel or option.panel,
        )

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """An empty variable counts as unset, as in most programs, except where that would widen.

        An empty list is an error instead: an allow list that fell out of a deployment's template
        must not mean that everything is allowed.
        """
        if self.setting.kind == "list" and isinstance(self.envvar, str):
            return os.environ.get(self.envvar)
        return super().resolve_envvar_value(ctx)

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Check the value; one that does not fit is an error once the settings are asked for.

        Until then it is put by (:func:`put_by`), or ``version`` would fail in such an environment.
        """
        try:
            return super().type_cast_value(ctx, value)
        except SettingError as error:
            put_by(ctx, error)
            return None


def put_by(ctx: click.Context, error: SettingError) -> None:
    """Keep an error for :func:`raise_first`."""
    ctx.meta.setdefault(_ERRORS, []).append(error)


def raise_first(ctx: click.Context) -> None:
    """Raise the first error that was put by, if any."""
    for error in ctx.meta.get(_ERRORS, ()):
        raise error


class _SettingType(click.ParamType[Value]):
    def __init__(self, setting: Setting, env: str | None) -> None:
        self.setting, self.env, self.name = setting, env, setting.option.metavar

    def convert(
        self, value: Any, _param: click.Parameter | None, ctx: click.Context | None
    ) -> Value:
        source = ctx.get_parameter_source(self.setting.name) if ctx else None
        from_env = source is ParameterSource.ENVIRONMENT and self.env
        where = self.env if from_env and self.env else self.setting.flag
        if isinstance(value, str):
            return self.setting.parse(value, where)
        return self.setting.fit(value, where)

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv]  # commas are the setting's business

    def shell_complete(
        self, _ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        from click.shell_completion import CompletionItem

        if self.setting.option.path:
            return [CompletionItem(incomplete, type="file")]
        words = self.setting.choices
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def _join(
    _ctx: click.Context, _param: click.Parameter, values: tuple[tuple[str, ...], ...] | None
) -> tuple[str, ...] | None:
    """``-r a,b -r c`` -> ``("a", "b", "c")``, and nothing given -> ``None``."""
    return tuple(item for value in values or () for item in value) or None


def _show_default(shown: object) -> str:
    if shown in ("", (), None):
        return ""
    if isinstance(shown, tuple):
        shown = ",".join(shown)
    return rf" \[default: {shown:g}]" if isinstance(shown, float) else rf" \[default: {shown}]"
