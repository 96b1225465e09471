"""Fixtures for tests that run the real programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs.ends import TcpServer, echo
from tests.programs.harness import Suite


@pytest.fixture
def suite(tmp_path: Path) -> Iterator[Suite]:
    """Keys and programs of one test, ended with it."""
    with Suite(tmp_path) as suite:
        yield suite
        suite.tell()


@pytest.fixture
def echo_server() -> Iterator[TcpServer]:
    """A destination that sends back what it gets."""
    with TcpServer(echo) as server:
        yield server
