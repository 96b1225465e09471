"""Key files: what is refused and how it is said; writing whole files or none."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import KeyFileError
from common.key_files import (
    MOST_BYTES,
    check_private,
    load_identity,
    load_public_key,
    write_private,
    write_public,
)
from common.keys import Identity
from tests.common.key_samples import ALICE_PRIVATE, ALICE_PUBLIC, LOCKED_PRIVATE, RFC_SEED

posix = pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")


def private_file(path: Path, data: bytes = ALICE_PRIVATE, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_loads_what_ssh_keygen_wrote(tmp_path: Path) -> None:
    path = private_file(tmp_path / "auth")
    (tmp_path / "auth.pub").write_text(f"{ALICE_PUBLIC}\n")
    assert load_identity(str(path)).public == load_public_key(tmp_path / "auth.pub")


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o660, 0o777])
@pytest.mark.parametrize("load", [load_identity, check_private])
def test_a_key_that_others_can_touch_is_refused(
    tmp_path: Path, mode: int, load: Callable[[Path], object]
) -> None:
    path = private_file(tmp_path / "my auth", mode=mode)
    with pytest.raises(KeyFileError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}: a private key that others can read or write (mode {mode:04o}); "
        f"run: chmod 600 '{path}'"
    )


@posix
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_of_the_owner_alone_is_taken(tmp_path: Path, mode: int) -> None:
    path = private_file(tmp_path / "auth", mode=mode)
    check_private(path)
    load_identity(path)


@posix
def test_a_public_key_may_be_read_by_anybody(tmp_path: Path) -> None:
    load_public_key(private_file(tmp_path / "auth.pub", ALICE_PUBLIC.encode(), 0o644))


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("auth", "gen-cert ed25519 --output {directory}"),
        ("server.key", "gen-cert x509 --output {directory}"),
        ("id_ed25519", "ssh-keygen -t ed25519 -f {directory}/id_ed25519"),
    ],
)
def test_a_missing_file_is_named_with_the_command_that_makes_it(
    tmp_path: Path, name: str, command: str
) -> None:
    for load in (load_identity, check_private):
        with pytest.raises(KeyFileError, match="no such file") as caught:
            load(tmp_path / name)
        assert command.format(directory=tmp_path) in str(caught.value)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"a directory; name the file in it, such as .*auth$"):
        load_identity(tmp_path)
    with pytest.raises(KeyFileError, match=r"a directory; .*auth\.pub$"):
        load_public_key(tmp_path)
    with pytest.raises(KeyFileError, match="a directory"):
        check_private(tmp_path)


@posix
def test_a_named_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "auth", 0o600)
    with pytest.raises(KeyFileError, match="not a regular file"):
        load_identity(tmp_path / "auth")


@pytest.mark.parametrize("data", [b"", b"\n \r\n"])
def test_an_empty_file_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(KeyFileError, match=r"an empty file; make it with: gen-cert ed25519"):
        load_identity(private_file(tmp_path / "auth", data))
    with pytest.raises(KeyFileError, match=r"an empty file; make it with: gen-cert ed25519"):
        load_public_key(private_file(tmp_path / "auth.pub", data))


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=f"larger than {MOST_BYTES} bytes"):
        load_identity(private_file(tmp_path / "auth", b"x" * (MOST_BYTES + 1)))


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = private_file(tmp_path / "auth")
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(KeyFileError, match=r"may not be read by this user; .* chmod u\+r"):
        load_identity(path)


def test_a_path_through_a_file_or_with_a_nul_is_refused(tmp_path: Path) -> None:
    private_file(tmp_path / "file")
    for path in (str(tmp_path / "file" / "auth"), "a\0b", "\ud800"):
        with pytest.raises(KeyFileError):
            load_identity(path)
        with pytest.raises(KeyFileError):
            load_public_key(path)
        with pytest.raises(KeyFileError):
            check_private(path)
        with pytest.raises(KeyFileError):
            write_private(path, b"")


def test_an_error_in_the_contents_begins_with_the_path(tmp_path: Path) -> None:
    path = private_file(tmp_path / "auth", LOCKED_PRIVATE)
    with pytest.raises(KeyFileError) as caught:
        load_identity(path)
    assert str(caught.value).startswith(f"{path}: the private key is protected by a passphrase")
    assert str(caught.value).endswith(f"ssh-keygen -p -N '' -f {path}")
    with pytest.raises(KeyFileError, match=f"^{path}: this is a private key"):
        load_public_key(path)


@posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_modes_are_exact_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_private(tmp_path / "auth", b"secret")
        write_public(tmp_path / "auth.pub", b"public")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "auth") == 0o600
    assert mode_of(tmp_path / "auth.pub") == 0o644


def test_what_was_written_can_be_loaded(tmp_path: Path) -> None:
    identity = Identity.from_seed(RFC_SEED, "me")
    write_private(tmp_path / "new" / "auth", identity.to_openssh())
    write_public(tmp_path / "new" / "auth.pub", identity.public.openssh().encode())
    assert load_identity(tmp_path / "new" / "auth") == identity
    assert load_public_key(tmp_path / "new" / "auth.pub") == identity.public
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["auth", "auth.pub"]


def test_nothing_is_replaced_without_force(tmp_path: Path) -> None:
    path = private_file(tmp_path / "auth", b"old")
    with pytest.raises(KeyFileError, match=r"auth: already exists .* --force"):
        write_private(path, b"new")
    assert path.read_bytes() == b"old"
    write_private(path, b"new", force=True)
    assert path.read_bytes() == b"new"
    assert [*tmp_path.iterdir()] == [path]


@posix
def test_force_replaces_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    target = private_file(tmp_path / "target", b"old")
    link = tmp_path / "auth"
    link.symlink_to(target)
    write_private(link, b"new", force=True)
    assert not link.is_symlink()
    assert (link.read_bytes(), target.read_bytes()) == (b"new", b"old")


def test_a_directory_is_not_replaced_even_with_force(tmp_path: Path) -> None:
    (tmp_path / "auth").mkdir()
    with pytest.raises(KeyFileError, match="auth: a directory"):
        write_private(tmp_path / "auth", b"new", force=True)


def test_keys_bring_no_more_of_cryptography_than_they_need() -> None:
    """Memory counts: a program without X.509 does not pay for it."""
    program = (
        "import sys, common.key_files\n"
        "unwanted = {'cryptography.x509', 'nacl', 'zxcvbn', 'rich', 'msgspec',"
        " 'cryptography.hazmat.primitives.asymmetric.rsa'}\n"
        "sys.exit(', '.join(unwanted & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
