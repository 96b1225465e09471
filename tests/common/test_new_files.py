"""Several new files: all of them are written, or none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from common.errors import KeyFileError
from common.new_files import NewFile, write_new


def no_hard_links(*_args: object) -> None:
    raise OSError(95, "Operation not supported")


def pair(directory: Path) -> list[NewFile]:
    return [
        NewFile(directory / "auth", b"new private", 0o600),
        NewFile(directory / "auth.pub", b"new public", 0o644),
    ]


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_both_are_written(tmp_path: Path) -> None:
    write_new(pair(tmp_path), force=False)
    assert contents(tmp_path) == {"auth": b"new private", "auth.pub": b"new public"}


@pytest.mark.parametrize("name", ["auth", "auth.pub"])
def test_one_that_exists_stops_both(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(KeyFileError, match="already exists"):
        write_new(pair(tmp_path), force=False)
    assert contents(tmp_path) == {name: b"old"}


def test_one_that_appears_at_the_last_moment_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def raced(source: Any, target: Any) -> None:
        if Path(target).name == "auth.pub":
            Path(target).write_bytes(b"theirs")
        link(source, target)

    monkeypatch.setattr(os, "link", raced)
    with pytest.raises(KeyFileError, match=r"auth\.pub: already exists"):
        write_new(pair(tmp_path), force=False)
    assert contents(tmp_path) == {"auth.pub": b"theirs"}


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_failed_replacement_puts_the_old_pair_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    write_new([NewFile(f.path, b"old", f.mode) for f in pair(tmp_path)], force=False)
    replace = os.replace

    def failing(source: Any, target: Any) -> None:
        if Path(target).name == "auth.pub" and Path(source).read_bytes() != b"old":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    if not hard_links:
        monkeypatch.setattr(os, "link", no_hard_links)
    with pytest.raises(KeyFileError, match=r"auth\.pub: cannot be written: No space left"):
        write_new(pair(tmp_path), force=True)
    assert contents(tmp_path) == {"auth": b"old", "auth.pub": b"old"}


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_hard_links)
    write_new(pair(tmp_path), force=False)
    with pytest.raises(KeyFileError, match="already exists"):
        write_new(pair(tmp_path), force=False)
    write_new(pair(tmp_path), force=True)
    assert contents(tmp_path) == {"auth": b"new private", "auth.pub": b"new public"}


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def interrupted(_descriptor: int) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_new(pair(tmp_path), force=False)
    assert contents(tmp_path) == {}
