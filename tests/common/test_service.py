from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ARGV = [sys.executable, "-m", "tests.common.service_program"]


class Tiny:
    """The running program; its output is read line by line, so nothing waits by the clock."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def out(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().rstrip("\n")

    def until(self, part: str) -> str:
        """The next line of the log that has ``part`` in it."""
        assert self.process.stderr
        for line in self.process.stderr:
            if part in line:
                return line.rstrip("\n")
        raise AssertionError(f"the log ended without {part!r}")

    def kill(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """The exit status, and what was left in the log."""
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err


@contextmanager
def tiny(mode: str, **environ: str) -> Iterator[Tiny]:
    env = {k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
    process = subprocess.Popen(
        [*ARGV, mode],
        env=env | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Tiny(process)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loop", ["asyncio", "auto"])
def test_a_signal_drains_and_ends_with_0(number: signal.Signals, loop: str) -> None:
    with tiny("drain", LOOP=loop) as program:
        assert program.out().startswith("tiny ready on 127.0.0.1:1 ")
        program.kill(number)
        program.until("info  stopping: 60 s grace")
        assert program.end() == (0, "")


@pytest.mark.parametrize("mode", ["hang", "stubborn"])
def test_a_second_signal_ends_at_once_with_0(mode: str) -> None:
    with tiny(mode) as program:
        program.out()
        program.kill(signal.SIGTERM)
        program.until("stopping: 60 s grace")
        program.kill(signal.SIGINT)
        assert program.end()[0] == 0


def test_what_outlives_its_grace_is_cut_off() -> None:
    with tiny("hang", GRACE="0") as program:
        program.out()
        program.kill(signal.SIGTERM)
        program.until("warn  not ended within the grace; cutting off what is left")
        assert program.end() == (0, "")


def test_a_thread_that_hangs_does_not_keep_the_process() -> None:
    with tiny("thread") as program:
        program.out()
        program.kill(signal.SIGTERM)
        assert program.end()[0] == 0


def test_returning_ends_with_0() -> None:
    with tiny("return") as program:
        assert program.end()[0] == 0


def test_the_ready_line_is_one_line_and_the_limit_is_raised() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with tiny("return", LOOP="asyncio") as program:
        assert program.out() == rf"tiny ready on 127.0.0.1:1 asyncio {hard}\n"
        assert program.out() == ""


def test_uvloop_is_used_where_it_is() -> None:
    pytest.importorskip("uvloop")
    with tiny("return") as program:
        assert " uvloop " in program.out()


def test_a_usage_error_in_nested_tasks_is_one_line() -> None:
    with tiny("usage") as program:
        status, err = program.end()
    assert status == 2
    assert err.splitlines()[-1] == r"tiny: error: --port: 1 is taken;\nchoose another"
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("mode", "causes"), [("crash", ["unexpected"]), ("crash-twice", ["one", "two"])]
)
def test_an_unexpected_error_is_logged_with_its_traceback(mode: str, causes: list[str]) -> None:
    with tiny(mode) as program:
        status, err = program.end()
    assert status == 1
    assert "fatal tiny ended by an error" in err
    assert all(f"RuntimeError: {cause}\n" in err for cause in causes)
    assert ("Group" in err) == (len(causes) > 1)


def test_an_error_in_a_callback_ends_nothing() -> None:
    with tiny("callback") as program:
        assert program.out().startswith("tiny ready")
        program.until("error internal error in a callback")
        program.until("ZeroDivisionError: in a callback")
        program.kill(signal.SIGTERM)
        assert program.end()[0] == 0


def test_sighup_reloads() -> None:
    with tiny("drain") as program:
        program.out()
        for _ in range(2):
            program.kill(signal.SIGHUP)
            assert program.out() == "reloading"
            program.until("info  reloaded")
        program.kill(signal.SIGTERM)
        assert program.end()[0] == 0


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("bad-reload", 'all stays as it was reason="keys.txt:7: not a key"'),
        ("crash-reload", "not reloaded: internal error"),
    ],
)
def test_a_reload_that_fails_changes_nothing(mode: str, reason: str) -> None:
    with tiny(mode) as program:
        program.out()
        program.kill(signal.SIGHUP)
        assert program.until("not reloaded").endswith(reason)
        program.kill(signal.SIGTERM)
        assert program.end()[0] == 0


@pytest.mark.parametrize("closed", [">&- 2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_output_that_goes_nowhere_is_no_error(closed: str) -> None:
    command = f'exec "$0" -m tests.common.service_program return {closed}'
    assert subprocess.run(["sh", "-c", command, sys.executable], timeout=30).returncode == 0


def test_a_broken_pipe_is_no_error() -> None:
    with tiny("drain") as program:
        program.out()
        assert program.process.stdout
        assert program.process.stderr
        program.process.stdout.close()
        program.process.stderr.close()
        program.kill(signal.SIGTERM)
        assert program.process.wait(30) == 0


def test_the_service_manager_is_told(tmp_path: Path) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(30)
    path = str(tmp_path / "notify")
    with manager:
        manager.bind(path)
        with tiny("drain", NOTIFY_SOCKET=path) as program:
            pid = program.process.pid
            assert manager.recv(4096) == b"STATUS=0 links"
            assert manager.recv(4096) == b"READY=1\nMAINPID=%d" % pid
            program.kill(signal.SIGHUP)
            before, now = manager.recv(4096).split(b"MONOTONIC_USEC=")
            assert before == b"RELOADING=1\n"
            assert 0 <= time.monotonic_ns() // 1000 - int(now) < 60_000_000
            assert manager.recv(4096) == b"READY=1\nMAINPID=%d" % pid
            program.kill(signal.SIGTERM)
            assert manager.recv(4096) == b"STOPPING=1"
            assert program.end()[0] == 0


def test_the_watchdog_is_fed(tmp_path: Path) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(30)
    with manager:
        manager.bind(str(tmp_path / "notify"))
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000"}
        with tiny("drain", **environ) as program:
            seen = [manager.recv(4096) for _ in range(6)]
            assert seen.count(b"WATCHDOG=1") >= 3
            program.kill(signal.SIGTERM)


@pytest.mark.parametrize("level", ["debug", "error"])
def test_settings_reach_the_log(level: str) -> None:
    code = (
        "from common.service import run_program; from common.settings import CommonSettings\n"
        "async def main(service): pass\n"
        f"run_program('p', CommonSettings(log_level={level!r}, log_format='json'), main)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert ('"level":"debug"' in run.stderr) == (level == "debug")
