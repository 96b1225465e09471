"""The file of visitors: written now and then beside the loop, never lost, never overwritten."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from pathlib import Path

import pytest

from common import logs
from common.errors import SettingError
from common.log_budget import LogBudget
from reverse_proxy import visitors_file as module
from reverse_proxy.visitors_file import VisitorsFile, default_path, read
from tests.common.loops import on_both_loops, run, turns, until


def clients(path: Path) -> list[str]:
    return [seen.client for _, seen in read(path)]


def test_what_is_saved_is_known_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state" / "visitors.json"
    first = VisitorsFile(str(path))
    addresses = {host: first.stand_in(host) for host in ("192.0.2.7", "2001:db8::1")}
    first.save()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert clients(path) == ["192.0.2.7", "2001:db8::/64"]
    second = VisitorsFile(str(path))
    assert {host: second.stand_in(host) for host in addresses} == addresses
    assert second.stand_in("nobody") == ""


@on_both_loops
def test_newcomers_are_saved_soon_and_nothing_else_is(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVE_S", 0.01)
    path = tmp_path / "visitors.json"

    async def main() -> None:
        file = VisitorsFile(str(path))
        keeping = asyncio.create_task(file.keep())
        try:
            file.stand_in("192.0.2.7")
            await until(lambda: file._saved_at, "it is written, and that is known")
            path.unlink()
            file.stand_in("192.0.2.7")
            assert not file._changed  # known already
            file.stand_in("192.0.2.8")
            await until(path.exists, "it is written again")
            assert clients(path) == ["192.0.2.7", "192.0.2.8"]
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    run(kind, main)


def test_a_newcomer_to_a_full_table_is_saved_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "visitors.json"
    file = VisitorsFile(str(path))
    monkeypatch.setattr(file._table, "_most", 2)
    for host in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        file.stand_in(host)
        file.save()
    assert clients(path) == ["192.0.2.2", "192.0.2.3"]


@on_both_loops
def test_a_slow_disk_stops_nobody(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVE_S", 0.01)
    may_go_on = threading.Event()
    started = threading.Event()

    def slow(self: VisitorsFile, items: object) -> None:
        started.set()
        assert may_go_on.wait(10)

    monkeypatch.setattr(VisitorsFile, "_write", slow)

    async def main() -> None:
        file = VisitorsFile(str(tmp_path / "visitors.json"))
        keeping = asyncio.create_task(file.keep())
        file.stand_in("192.0.2.7")
        await until(started.is_set, "it is being written")
        await turns(100)  # the loop goes on meanwhile
        may_go_on.set()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    run(kind, main)


def test_a_failure_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logs, "_budget", LogBudget())
    (tmp_path / "in the way").write_text("")
    path = tmp_path / "in the way" / "visitors.json"
    file = VisitorsFile(str(path))
    file.stand_in("192.0.2.7")
    caplog.set_level(logging.WARNING)
    file.save()
    assert caplog.messages == ["cannot remember visitors"]
    (tmp_path / "in the way").unlink()
    file.save()
    assert clients(path) == ["192.0.2.7"]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "no file of visitors"),
        ("[]", "no file of visitors"),
        ('{"version":1,"visitors":[["127.1.1.1"]]}', "no file of visitors"),
        ('{"version":2,"visitors":[]}', "version 2"),
    ],
)
def test_what_cannot_be_read_is_set_aside(tmp_path: Path, content: str, match: str) -> None:
    path = tmp_path / "visitors.json"
    path.write_text(content)
    with pytest.raises(SettingError, match=match):
        read(path)
    file = VisitorsFile(str(path))
    assert file.stand_in("192.0.2.7").startswith("127.")
    file.save()
    assert (tmp_path / "visitors.json.unreadable").read_text() == content
    assert clients(path) == ["192.0.2.7"]


def test_a_file_that_is_not_there_is_an_error_for_whois_alone(tmp_path: Path) -> None:
    path = tmp_path / "visitors.json"
    with pytest.raises(SettingError, match="No such file"):
        read(path)
    assert VisitorsFile(str(path)).stand_in("192.0.2.7")


def test_a_link_in_the_place_of_the_new_file_is_not_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "visitors.json", tmp_path / "other"
    other.write_text("precious")
    (tmp_path / "visitors.json.new").symlink_to(other)
    file = VisitorsFile(str(path))
    file.stand_in("192.0.2.7")
    file.save()
    assert other.read_text() == "precious"
    assert json.loads(path.read_text())["version"] == 1


def test_where_the_file_is_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
    assert default_path() == Path("/var/lib/one/visitors.json")
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "tcp-relay" / "visitors.json"
