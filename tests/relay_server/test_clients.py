"""Clients come and go, and are told of once each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.addresses import HostPort
from relay_server.clients import Clients
from relay_server.matchmaker import Party
from tests.programs.harness import Suite

ONE = Party("entry-point", "0", bytes(32), bytes(16), frozenset())
TWO = Party("reverse-proxy", "0", bytes(32), bytes(16), frozenset())
HOME = HostPort("192.0.2.7", 4711)


def test_only_the_first_and_the_last_are_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clients = Clients()
    for party in (ONE, ONE, TWO):
        clients.came(party, HOME)
    assert len(clients) == 2
    assert [each.getMessage() for each in caplog.records] == ["client connected"] * 2
    clients.left(ONE)
    assert len(caplog.records) == 2
    clients.left(ONE)
    clients.left(TWO)
    assert len(clients) == 0
    assert [each.getMessage() for each in caplog.records[2:]] == ["client gone"] * 2


def test_a_relay_counts_nobody_twice_and_forgets_nobody(tmp_path: Path) -> None:
    with Suite(tmp_path) as suite:
        relay = suite.relay()
        reverse_proxy = suite.reverse_proxy(relay)
        entry_point = suite.entry_point(relay, "-r", "0:80", channels=8)
        relay.wait_metric("clients", lambda count: count == 2)
        entry_point.kill()
        relay.wait_metric("clients", lambda count: count == 1)
        reverse_proxy.kill()
        relay.wait_metric("clients", lambda count: count == 0)
        told = [line for line in relay.lines if re.search("client (connected|gone)", line)]
        assert len(told) == 4
