"""Reading a trusted keys file: what the disk can do wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from common import trusted_keys_file
from common.errors import KeyFileError, TrustedKeysError
from common.keys import Identity
from common.trusted_keys_file import load_trusted_keys

KEY = Identity.from_seed(bytes(32)).public


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "auth.pub"
    path.write_text(f"{KEY.openssh()}\n")
    path.chmod(0o644)
    return path


def test_a_file(path: Path) -> None:
    for name in (path, str(path)):
        keys = load_trusted_keys(name)
        assert [(key.key, key.where) for key in keys] == [(KEY, f"{path}:1")]


@pytest.mark.skipif(os.name != "posix", reason="there are no such modes")
@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_writable_by_others(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(KeyFileError) as caught:
        load_trusted_keys(path)
    assert str(caught.value) == (
        f"{path}: others may write this file (mode {mode:04o}) and so decide who comes in;"
        f" run: chmod go-w {path}"
    )


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError) as caught:
        load_trusted_keys(tmp_path / "none")
    assert str(caught.value) == (
        f"{tmp_path / 'none'}: no such file; make a key with `gen-cert ed25519`, or name a file"
        " with one public key a line"
    )


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError) as caught:
        load_trusted_keys(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: a directory; name the file in it, such as ")


def test_other_errors(path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"cannot be read: .*; name another file"):
        load_trusted_keys(path / "below-a-file")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_not_readable(path: Path) -> None:
    path.chmod(0o200)
    with pytest.raises(KeyFileError, match=r"may not be read; run: chmod u\+r "):
        load_trusted_keys(path)


def test_too_large(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trusted_keys_file, "MOST_BYTES", 10)
    with pytest.raises(KeyFileError, match="larger than 10 bytes"):
        load_trusted_keys(path)


def test_what_is_in_it(path: Path) -> None:
    path.write_text("\nhello\n")
    with pytest.raises(TrustedKeysError) as caught:
        load_trusted_keys(path)
    assert (caught.value.path, caught.value.line) == (str(path), 2)
