from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from common import relay_address as module
from common.addresses import HostPort
from common.errors import LinkLost
from tests.common.loops import on_both_loops, run

RELAY = HostPort("relay.example", 4433)


async def words(monkeypatch: pytest.MonkeyPatch, answer: BaseException | None) -> str:
    async def look_up(*_: object) -> list[Any]:
        if answer:
            raise answer
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(module, "look_up", look_up)
    with pytest.raises(LinkLost) as error:
        await module.connect(RELAY)
    return str(error.value)


@on_both_loops
def test_a_name_server_that_is_silent_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESOLVE_S", 0.05)
    assert run(kind, lambda: words(monkeypatch, None)) == (
        "cannot resolve the relay's name relay.example: no answer within 0.05 s; check"
        " --server-address and this machine's DNS"
    )


@on_both_loops
def test_a_name_that_is_not_known_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert run(kind, lambda: words(monkeypatch, failure)) == (
        "cannot resolve the relay's name relay.example: Name or service not known; check"
        " --server-address and this machine's DNS"
    )
