"""Raw links have no frames: whatever ends their socket early must look like an abort."""

from __future__ import annotations

import signal

from common.wire import Visit
from tests.programs.ends import connected, free_port, receive_reset
from tests.programs.evil_client import raw_socket, receive
from tests.programs.evil_tenant import EvilTenant, Stage
from tests.programs.harness import Suite


def test_a_relay_killed_between_visit_and_ready(suite: Suite) -> None:
    """A FIN here would pass for the visitor's: its destination would see a stream of no bytes."""
    relay = suite.relay(port=free_port())
    with EvilTenant(Stage(suite, relay, relay.addresses()[0])) as evil:
        public = evil.expose(raw=True)
        link = evil.link("raw")
        with connected(public) as visitor:
            assert isinstance(receive(link), Visit)
            relay.signal(signal.SIGKILL)
            with raw_socket(link) as raw:
                assert receive_reset(raw) == 0
            assert receive_reset(visitor) == 0
