import os
import re
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.sd_notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    path = str(tmp_path / "notify") if request.param == "path" else f"@test-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path.replace("@", "\0") if path.startswith("@") else path)
        receiver.settimeout(5)
        yield receiver, path


def test_messages(manager: tuple[socket.socket, str]) -> None:
    receiver, path = manager
    notifier = Notifier({"NOTIFY_SOCKET": path})

    def received() -> str:
        return receiver.recv(4096).decode()

    assert notifier.ready()
    assert received() == f"READY=1\nMAINPID={os.getpid()}"
    assert notifier.status("3 links\nREADY=0")
    assert received() == "STATUS=3 links READY=0"
    assert not notifier.status("3 links READY=0")
    assert notifier.reloading()
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", received())
    assert notifier.watchdog()
    assert received() == "WATCHDOG=1"
    assert notifier.stopping()
    assert received() == "STOPPING=1"
    notifier.close()
    notifier.close()
    assert not notifier.ready()


@pytest.mark.parametrize("address", [None, "", "relative/path", "vsock:2:1234"])
def test_without_a_manager_nothing_happens(address: str | None) -> None:
    notifier = Notifier({} if address is None else {"NOTIFY_SOCKET": address})
    assert not notifier.ready()
    assert notifier.watchdog_s is None
    notifier.close()


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    assert not notifier.ready()
    notifier.close()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_watchdog(environ: dict[str, str], seconds: float | None) -> None:
    notifier = Notifier(environ | {"NOTIFY_SOCKET": "/run/none"})
    assert notifier.watchdog_s == seconds
    notifier.close()
