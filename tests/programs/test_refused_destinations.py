"""A destination that may not be reached: the cause and the next step, at both ends.

The messages are pinned, for they are what a person acts on.
"""

from __future__ import annotations

import pytest

from tests.programs.ends import TcpServer, connected
from tests.programs.harness import Suite
from tests.programs.refusals import message, trusted


def destination_refused(suite: Suite, route: str, *allow: str, keys: str = "") -> str:
    """Return the detail that both ends log when a source asks for ``route``."""
    relay = suite.relay()
    trust = ("-t", keys) if keys else ()
    reverse_proxy = suite.reverse_proxy(relay, *allow, *trust)
    entry_point = suite.entry_point(relay, "-r", route)
    with pytest.raises(ConnectionResetError), connected(entry_point.addresses()[0]) as source:
        source.recv(1)
    details = [message(each.wait_log("outcome=refused")) for each in (entry_point, reverse_proxy)]
    assert details[0].removesuffix("…") == details[1][: len(details[0].removesuffix("…"))]
    assert len(details[0]) > 1000 or details[0] == details[1]
    # The channel is as good as before.
    entry_point.wait_metric("channels_idle", lambda count: count >= 1)
    assert relay.metric("pairs_ended") == 0
    return details[0]


def test_a_destination_that_allow_does_not_list(suite: Suite, echo_server: TcpServer) -> None:
    address = echo_server.address
    detail = destination_refused(suite, f"0:{address}", "--allow", "192.0.2.0/24:80,db.example")
    assert detail == (
        f"not-permitted: 127.0.0.1 port {address.port} is not in the list of --allow"
        f" (192.0.2.0/24:80, db.example:*); add {address} to it at the reverse-proxy"
    )
    assert echo_server.accepted == 0


def test_a_destination_that_permitopen_does_not_list(suite: Suite, echo_server: TcpServer) -> None:
    long = [f'permitopen="{"a" * 60}.{"b" * 60}.{"c" * 60}.{n}.example:5432"' for n in range(5)]
    keys = trusted(suite, "keys", (",".join(long), suite.identity))
    detail = destination_refused(suite, f"0:{echo_server.address}", keys=keys)
    assert detail.startswith(
        f"not-permitted: key {suite.identity.public.fingerprint} (cert/keys:1) may not open"
        f" 127.0.0.1 port {echo_server.address.port}, only {'a' * 60}."
    )
    assert echo_server.accepted == 0


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]"])
def test_link_local_addresses_are_refused_unless_named(suite: Suite, host: str) -> None:
    detail = destination_refused(suite, f"0:{host}:80")
    address = {"[fe80::1]": "fe80::1"}.get(host, "169.254.169.254")
    kind = "link-local" if address == "fe80::1" else "the cloud's metadata service"
    entry = "[fe80::1]:80" if address == "fe80::1" else "169.254.169.254:80"
    assert detail == (
        f"guarded-address: {address} port 80 is refused: {address} is {kind}; if it is meant,"
        f" add --allow '*,{entry}' at the reverse-proxy"
    )
