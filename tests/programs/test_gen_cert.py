"""The real command, beside ssh-keygen and a real terminal."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography import x509

from common.key_files import check_private, load_identity, load_public_key
from gen_cert.ed25519 import default_comment, listing
from tests.gen_cert.test_passphrase import FINGERPRINT, PASSPHRASE

PROGRAM = Path(sys.executable).with_name("gen-cert")
STRONG_INPUT = f"{PASSPHRASE}\n".encode()

needs_ssh_keygen = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")


def run(
    directory: Path,
    *args: str,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [PROGRAM, *args],
        cwd=directory,
        input=stdin,
        env={**os.environ, **(env or {})},
        capture_output=True,
        timeout=50,
        check=False,
    )


def made(directory: Path, *args: str, stdin: bytes = b"") -> str:
    done = run(directory, *args, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def refused(directory: Path, *args: str, stdin: bytes = b"") -> str:
    done = run(directory, *args, stdin=stdin)
    assert (done.returncode, done.stdout) == (2, b"")
    message = done.stderr.decode()
    assert message.startswith("gen-cert: error: ")
    assert message.count("\n") == 1
    return message


def names_of(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def keygen(*args: str) -> str:
    done = subprocess.run(
        ["ssh-keygen", *args], capture_output=True, timeout=30, check=True, text=True
    )
    return done.stdout.strip()


class TestEd25519:
    def test_writes_a_pair(self, tmp_path: Path) -> None:
        out = made(tmp_path, "ed25519", "--comment", "the house")
        assert names_of(tmp_path) == ["cert", "cert/auth", "cert/auth.pub"]
        identity = load_identity(tmp_path / "cert/auth")
        assert identity.public.comment == "the house"
        assert load_public_key(tmp_path / "cert/auth.pub") == identity.public
        assert f"256 {identity.public.fingerprint} the house (ED25519)" in out.splitlines()
        if os.name == "posix":
            assert stat.S_IMODE((tmp_path / "cert/auth.pub").stat().st_mode) == 0o644

    @needs_ssh_keygen
    @pytest.mark.parametrize("comment", ["the house", "", "Hütte", "-x"])
    def test_ssh_keygen_reads_them(self, tmp_path: Path, comment: str) -> None:
        out = made(tmp_path, "ed25519", f"--comment={comment}")
        private, public = str(tmp_path / "cert/auth"), tmp_path / "cert/auth.pub"
        assert keygen("-y", "-f", private) == public.read_text().strip()
        listed = keygen("-l", "-f", str(public))
        if comment.isascii():  # ssh-keygen escapes the others for the C locale
            assert listed in out.splitlines()
        assert listed.split()[:2] == out.splitlines()[1].split()[:2]

    @needs_ssh_keygen
    @pytest.mark.parametrize("length", range(9))
    def test_ssh_keygen_reads_every_padding(self, tmp_path: Path, length: int) -> None:
        made(tmp_path, "ed25519", "--comment", "x" * length)
        line = (tmp_path / "cert/auth.pub").read_text().strip()
        assert keygen("-y", "-f", str(tmp_path / "cert/auth")) == line

    @needs_ssh_keygen
    def test_ssh_keygen_signs_with_them(self, tmp_path: Path) -> None:
        made(tmp_path, "ed25519")
        message = tmp_path / "message"
        message.write_text("hello")
        keygen("-Y", "sign", "-f", str(tmp_path / "cert/auth"), "-n", "test", str(message))
        assert (tmp_path / "message.sig").read_text().startswith("-----BEGIN SSH SIGNATURE")

    @needs_ssh_keygen
    @pytest.mark.parametrize("options", [[], ["-m", "PKCS8"]])
    def test_keys_of_ssh_keygen_are_read(self, tmp_path: Path, options: list[str]) -> None:
        path = tmp_path / "id"
        keygen("-q", "-t", "ed25519", "-N", "", "-C", "me", "-f", str(path), *options)
        identity = load_identity(path)
        assert listing(load_public_key(f"{path}.pub")) == keygen("-l", "-f", f"{path}.pub")
        assert identity.public == load_public_key(f"{path}.pub")

    def test_two_are_not_the_same(self, tmp_path: Path) -> None:
        made(tmp_path, "ed25519", "-o", "a")
        made(tmp_path, "ed25519", "-o", "b")
        assert load_identity(tmp_path / "a/auth") != load_identity(tmp_path / "b/auth")

    def test_the_comment_is_user_and_host(self, tmp_path: Path) -> None:
        assert f" {default_comment() or 'no comment'} (ED25519)" in made(tmp_path, "ed25519")

    def test_a_comment_of_two_lines_is_refused(self, tmp_path: Path) -> None:
        message = refused(tmp_path, "ed25519", "--comment", "a\nssh-rsa b")
        assert "--comment: 'a\\nssh-rsa b' is not one line of printable text" in message
        assert names_of(tmp_path) == []

    @pytest.mark.parametrize("name", ["auth", "auth.pub"])
    def test_an_old_file_stops_both_without_force(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("old")
        message = refused(tmp_path, "ed25519", "-o", ".")
        assert f"{name}: already exists and nothing was written; replace it with --force" in message
        assert names_of(tmp_path) == [name]
        made(tmp_path, "ed25519", "-o", ".", "--force")
        assert names_of(tmp_path) == ["auth", "auth.pub"]
        load_identity(tmp_path / "auth")

    def test_a_passphrase_is_not_asked_for_in_vain(self, tmp_path: Path) -> None:
        (tmp_path / "auth").write_text("old")
        message = refused(tmp_path, "ed25519", "-o", ".", "--passphrase", stdin=b"weak\n")
        assert "already exists" in message

    def test_an_output_that_cannot_be_a_directory(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        message = refused(tmp_path, "ed25519", "-o", "file")
        assert "file/auth: cannot be written: " in message
        assert "--output" in message


class TestPassphrase:
    def test_from_a_pipe_makes_the_pinned_key(self, tmp_path: Path) -> None:
        out = made(tmp_path, "ed25519", "--passphrase", "--comment", "", stdin=STRONG_INPUT)
        assert f"256 {FINGERPRINT} no comment (ED25519)" in out.splitlines()

    def test_makes_the_same_files_again(self, tmp_path: Path) -> None:
        for directory in ("a", "b"):
            made(tmp_path, "ed25519", "--passphrase", "-o", directory, stdin=STRONG_INPUT)
        assert (tmp_path / "a/auth").read_bytes() == (tmp_path / "b/auth").read_bytes()

    @pytest.mark.parametrize(
        ("stdin", "reason"),
        [
            (b"hunter2\n", "the passphrase is too weak: about 10^"),
            (b"\n", "the passphrase is empty"),
            (b"", "the passphrase is empty"),
            (b"\xff\n", "not UTF-8"),
        ],
    )
    def test_a_bad_one_writes_nothing(self, tmp_path: Path, stdin: bytes, reason: str) -> None:
        message = refused(tmp_path, "ed25519", "--passphrase", stdin=stdin)
        assert reason in message
        assert "hunter2" not in message
        assert names_of(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo terminal")
class TestTerminal:
    """A person who types: nothing is echoed, and both answers count."""

    def type(self, directory: Path, *answers: bytes) -> tuple[int, str]:
        import pty

        child, terminal = pty.fork()
        if child == 0:
            os.chdir(directory)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # who runs the tests may ignore it
            os.execv(PROGRAM, [str(PROGRAM), "ed25519", "--passphrase", "--comment", ""])
        shown = b""
        prompts = [b"Passphrase: ", b"The same again: "]
        with contextlib.suppress(OSError):  # Linux reports the end of a terminal as EIO
            for prompt, answer in zip(prompts, answers, strict=False):
                while not shown.endswith(prompt):
                    shown += os.read(terminal, 1024)
                os.write(terminal, answer)
            while chunk := os.read(terminal, 1024):
                shown += chunk
        os.close(terminal)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status), shown.decode()

    def test_asks_twice_and_shows_nothing(self, tmp_path: Path) -> None:
        status, shown = self.type(tmp_path, STRONG_INPUT, STRONG_INPUT)
        assert status == 0
        assert FINGERPRINT in shown
        assert "orbit" not in shown

    def test_two_that_differ_write_nothing(self, tmp_path: Path) -> None:
        status, shown = self.type(tmp_path, STRONG_INPUT, b"something else\n")
        assert status == 2
        assert "the two passphrases differ, so nothing was written" in shown
        assert names_of(tmp_path) == []

    @pytest.mark.parametrize("key", [b"\x03", b"\x04"], ids=["Ctrl-C", "Ctrl-D"])
    def test_giving_up_writes_nothing(self, tmp_path: Path, key: bytes) -> None:
        status, shown = self.type(tmp_path, key)
        assert status == 130
        assert "gen-cert: error: interrupted" in shown
        assert "Traceback" not in shown
        assert names_of(tmp_path) == []


class TestX509:
    def certificate(self, directory: Path) -> x509.SubjectAlternativeName:
        data = (directory / "server.crt").read_bytes()
        extensions = x509.load_pem_x509_certificate(data).extensions
        return extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    def test_writes_a_certificate_for_the_names(self, tmp_path: Path) -> None:
        out = made(tmp_path, "x509", "-d", "a.example,b.example", "--dns", "c.example", "-i", "::1")
        assert names_of(tmp_path) == ["cert", "cert/server.crt", "cert/server.key"]
        assert "a.example, b.example, c.example, ::1" in out
        assert "default" not in out
        san = self.certificate(tmp_path / "cert")
        assert san.get_values_for_type(x509.DNSName) == ["a.example", "b.example", "c.example"]
        assert list(map(str, san.get_values_for_type(x509.IPAddress))) == ["::1"]
        check_private(tmp_path / "cert/server.key")
        if os.name == "posix":
            assert stat.S_IMODE((tmp_path / "cert/server.crt").stat().st_mode) == 0o644

    def test_says_which_names_it_took_by_default(self, tmp_path: Path) -> None:
        out = made(tmp_path, "x509")
        assert "127.0.0.1, ::1 (the default; --dns and --ip set others)" in out
        assert "localhost" in self.certificate(tmp_path / "cert").get_values_for_type(x509.DNSName)

    @pytest.mark.parametrize(
        ("args", "reason"),
        [
            (["--dns", "127.0.0.1"], "--dns: '127.0.0.1' is not a host name: it is an address"),
            (["--ip", "localhost"], "--ip: 'localhost' is not an IP address"),
            (["--days", "0"], "--days: 0 is not a whole number from 1 to 36500"),
            (["--days", "1e3"], "--days: '1e3' is not a whole number from 1 to 36500"),
            (["--dayz", "3"], "--days"),
        ],
    )
    def test_bad_values_write_nothing(self, tmp_path: Path, args: list[str], reason: str) -> None:
        assert reason in refused(tmp_path, "x509", *args)
        assert names_of(tmp_path) == []

    @pytest.mark.parametrize("name", ["server.crt", "server.key"])
    def test_an_old_file_stops_both_without_force(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("old")
        assert f"{name}: already exists" in refused(tmp_path, "x509", "-o", ".")
        assert names_of(tmp_path) == [name]
        made(tmp_path, "x509", "-o", ".", "--force")
        assert names_of(tmp_path) == ["server.crt", "server.key"]

    def test_the_longest_validity(self, tmp_path: Path) -> None:
        made(tmp_path, "x509", "--days", "36500")


class TestSharedFlags:
    def test_json(self, tmp_path: Path) -> None:
        told = json.loads(made(tmp_path, "ed25519", "--log-format", "json", "--comment", "Hütte"))
        assert told == {
            "private_key": "cert/auth",
            "public_key": "cert/auth.pub",
            "fingerprint": load_identity(tmp_path / "cert/auth").public.fingerprint,
            "comment": "Hütte",
        }
        told = json.loads(made(tmp_path, "--log-format", "json", "x509", "-d", "a.example"))
        assert (told["dns"], told["ip"]) == (["a.example"], [])

    @pytest.mark.parametrize("args", [["--log-level", "error", "ed25519"], ["ed25519"]])
    def test_quiet(self, tmp_path: Path, args: list[str]) -> None:
        done = run(tmp_path, *args, env={"GEN_CERT_LOG_LEVEL": "warning"})
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        load_identity(tmp_path / "cert/auth")

    @pytest.mark.parametrize("before", [True, False])
    def test_config_environment_and_flag(self, tmp_path: Path, before: bool) -> None:
        (tmp_path / "gen.toml").write_text(
            'output = "from-file"\ndns = ["file.example"]\ncomment = "file"\nlog-format = "json"\n'
        )
        config = ["--config", "gen.toml"]

        def told(*args: str) -> dict[str, object]:
            command = [*config, *args] if before else [*args, *config]
            done = run(tmp_path, *command, env={"GEN_CERT_OUTPUT": "from-env"})
            assert done.returncode == 0, done.stderr
            return dict(json.loads(done.stdout))

        assert told("x509")["certificate"] == "from-env/server.crt"
        assert told("ed25519", "-o", "from-flag")["private_key"] == "from-flag/auth"
        assert told("ed25519")["comment"] == "file"
        assert told("x509", "--force")["dns"] == ["file.example"]

    def test_a_broken_environment_does_not_stop_version(self, tmp_path: Path) -> None:
        env = {"GEN_CERT_CONFIG": "missing.toml", "GEN_CERT_DAYS": "many"}
        assert run(tmp_path, "version", env=env).returncode == 0
        assert run(tmp_path, "x509", env=env).returncode == 2

    def test_unknown_key_in_the_config(self, tmp_path: Path) -> None:
        (tmp_path / "gen.toml").write_text("force = true\n")
        message = refused(tmp_path, "--config", "gen.toml", "x509")
        assert "gen.toml" in message
        assert "force" in message

    @pytest.mark.parametrize("args", [["--version"], ["version"]])
    def test_version(self, tmp_path: Path, args: list[str]) -> None:
        assert made(tmp_path, *args).startswith("gen-cert 0.")

    @pytest.mark.parametrize("args", [["-h"], ["--help"], ["x509", "-h"], ["ed25519", "--help"]])
    def test_help(self, tmp_path: Path, args: list[str]) -> None:
        assert "--config" in made(tmp_path, *args)

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_completion(self, tmp_path: Path, shell: str) -> None:
        assert "_GEN_CERT_COMPLETE" in made(tmp_path, "completion", shell)

    def test_a_comment_that_the_locale_cannot_show(self, tmp_path: Path) -> None:
        done = run(tmp_path, "ed25519", "--comment", "Hütte", env={"PYTHONIOENCODING": "ascii"})
        assert done.returncode == 0
        assert rb" H\xfctte (ED25519)" in done.stdout
        assert load_identity(tmp_path / "cert/auth").public.comment == "Hütte"
