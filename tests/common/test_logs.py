import json
import logging
import math
import os
import pty
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import logs
from common.log_budget import LogBudget
from common.logs import configure, event, flush_summaries, print_error, write_all

log = logging.getLogger("tests.logs")


@pytest.fixture(autouse=True)
def _own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leaves no handler, level or budget behind."""
    root, asyncio_log = logging.getLogger(), logging.getLogger("asyncio")
    handlers, level, asyncio_level = root.handlers[:], root.level, asyncio_log.level
    flags = logging.logThreads, logging.logProcesses, logging.logMultiprocessing
    monkeypatch.setattr(logs, "_budget", LogBudget(burst=2, window_s=10.0))
    monkeypatch.setattr(logs, "_suppressed", {})
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    asyncio_log.setLevel(asyncio_level)
    logging.logThreads, logging.logProcesses, logging.logMultiprocessing = flags


class Sink:
    """A file that a log is written to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT)

    def lines(self) -> list[str]:
        return self.path.read_text("utf-8").splitlines()


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    sink = Sink(tmp_path / "log")
    yield sink
    os.close(sink.fd)


def test_plain_text(sink: Sink) -> None:
    configure("info", "text", "relay-server", fd=sink.fd)
    event(log, logging.INFO, "stream ended", source="[::1]:5", sent=10, seconds=1.23456, why=None)
    event(log, logging.WARNING, "odd", text="two words", flag=True, raw=b"\xff\x1b", zero=0.0)
    first, second = sink.lines()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "
    assert re.fullmatch(
        stamp + r"info  stream ended source=\[::1\]:5 sent=10 seconds=1\.235", first
    )
    assert re.fullmatch(
        stamp + r'warn  odd text="two words" flag=true raw="\\\\xff\\x1b" zero=0', second
    )


def test_json(sink: Sink) -> None:
    configure("info", "json", "relay-server", fd=sink.fd)
    event(log, logging.WARNING, "odd", source="a\x9b\n", sent=10, seconds=0.5, level="mine")
    (line,) = sink.lines()
    assert line.isprintable()
    document = json.loads(line)
    assert document.pop("time").endswith("Z")
    assert document == {
        "level": "warning",
        "program": "relay-server",
        "message": "odd",
        "source": "a\x9b\n",
        "sent": 10,
        "seconds": 0.5,
        "level_": "mine",
    }


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_what_a_peer_sent_is_one_harmless_line(sink: Sink, fmt: str) -> None:
    configure("info", fmt, "relay-server", fd=sink.fd)
    event(log, logging.INFO, "refused", name="\x1b[2J\r\n2026 info forged \u202e \udcff")
    log.info("from a library: %s", "\x1b[31m\nforged")
    lines = sink.lines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_secrets_are_masked(sink: Sink, fmt: str) -> None:
    configure("info", fmt, "gen-cert", fd=sink.fd)
    event(log, logging.INFO, "made", passphrase="correct horse", seed=12345, private_key=b"k")
    (line,) = sink.lines()
    assert "correct" not in line
    assert "12345" not in line
    assert line.count("***") == 3


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_a_traceback_cannot_forge_a_line(sink: Sink, fmt: str) -> None:
    configure("info", fmt, "relay-server", fd=sink.fd)
    try:
        raise RuntimeError("gone\n2026-11-21T03:00:00.123Z info  forged\x1b[2J")
    except RuntimeError as error:
        event(log, logging.ERROR, "failed", exception=error)
    first, *rest = sink.lines()
    assert "failed" in first
    assert all(line.startswith("    | ") and line.isprintable() for line in rest)
    assert bool(rest) == (fmt == "text")
    assert "RuntimeError" in (first + "".join(rest))


def test_levels(sink: Sink) -> None:
    configure("warning", "text", "relay-server", fd=sink.fd)
    event(log, logging.INFO, "not shown")
    event(log, logging.WARNING, "shown")
    assert len(sink.lines()) == 1


def test_configuring_again_replaces(sink: Sink) -> None:
    configure("info", "text", "relay-server", fd=sink.fd)
    configure("info", "json", "relay-server", fd=sink.fd)
    event(log, logging.INFO, "once")
    assert len(sink.lines()) == 1


def test_a_value_that_cannot_be_shown_ends_nothing(sink: Sink) -> None:
    class Bad:
        def __str__(self) -> str:
            raise ValueError("no")

    configure("info", "text", "relay-server", fd=sink.fd)
    event(log, logging.INFO, "hm", value=Bad())
    assert sink.lines() == ["info a log line could not be written: ValueError('no')"]


def test_a_flood_is_summed_up(sink: Sink) -> None:
    configure("info", "text", "relay-server", fd=sink.fd)
    for number in range(995):
        event(log, logging.WARNING, "bad first bytes", budget_key="garbage", number=number)
    assert len(sink.lines()) == 2
    flush_summaries(time.monotonic())
    assert len(sink.lines()) == 2
    flush_summaries(time.monotonic() + 10)
    assert sink.lines()[2].endswith(
        'warn  suppressed 993 more like it like="bad first bytes" budget=garbage'
    )
    flush_summaries(math.inf)
    assert len(sink.lines()) == 3


def test_summaries_of_a_flood_that_goes_on_keep_their_message(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    configure("info", "text", "relay-server", fd=sink.fd)
    for now in (0.0, 1.0, 2.0, 10.0, 11.0, 12.0):  # noqa: B007 - the clock reads it
        event(log, logging.INFO, "bad", budget_key="k")
    flush_summaries(12.0)
    flush_summaries(20.0)
    texts = [line.split(" info  ")[1] for line in sink.lines()]
    summary = "suppressed 1 more like it like=bad budget=k"
    assert texts == ["bad", "bad", "bad", "bad", summary, summary]
    assert logs._suppressed == {}


def test_on_a_terminal_there_are_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    line = _on_a_terminal()
    assert "\x1b[" in line
    assert "\x1b[2J" not in line
    assert r"evil=" in re.sub(r"\x1b\[[\d;]*m", "", line)
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3} warn  careful", re.sub(r"\x1b\[[\d;]*m", "", line))


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in _on_a_terminal()


def _on_a_terminal() -> str:
    outer, inner = pty.openpty()
    try:
        configure("info", "text", "relay-server", fd=inner)
        event(log, logging.WARNING, "careful", evil="\x1b[2J")
        return os.read(outer, 4096).decode()
    finally:
        os.close(inner)
        os.close(outer)


def test_a_reader_that_is_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    configure("info", "text", "relay-server", fd=writer)
    event(log, logging.INFO, "nobody reads this")
    assert not write_all(writer, "nor this")
    os.close(writer)
    event(log, logging.INFO, "nor this, the descriptor is closed")


def test_print_error(capfd: pytest.CaptureFixture[str]) -> None:
    print_error("relay-server", "bad value '\x1b[2J\n'")
    assert capfd.readouterr().err == "relay-server: error: bad value '\\x1b[2J\\n'\n"


def test_a_line_is_cheap(sink: Sink) -> None:
    """Thousands of streams end each second. The bound is loose: the machine may be busy."""
    configure("info", "text", "relay-server", fd=sink.fd)
    best = math.inf
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(1000):
            event(log, logging.INFO, "stream ended", source="192.0.2.1:5", sent=1, seconds=1.5)
        best = min(best, (time.perf_counter() - begun) / 1000)
    assert best < 100e-6
