"""An inner session over memory: nothing is lost between a handshake and the data behind it."""

from __future__ import annotations

import contextlib
import os
import ssl

import pytest

from common.session import PLAINTEXT_SIZE, Session
from tests.common.sessions import contexts, tcp_pair


@pytest.mark.parametrize("size", [1, 100_000, 200_000, 400_000, 1_000_000])
def test_data_right_behind_the_handshake_arrives_whole(size: int) -> None:
    """More than one read of it may have come when the acceptor takes the opener's last message."""
    client_context, server_context = contexts()
    left, right = tcp_pair()
    client = Session(client_context, left, server=False)
    server = Session(server_context, right, server=True)
    for each in (client, server):
        with pytest.raises(ssl.SSLWantReadError):
            each.do_handshake()
    client.do_handshake()
    payload = os.urandom(size)
    sent = client.write(payload)
    server.do_handshake()
    assert server.pending()
    buffer = memoryview(bytearray(PLAINTEXT_SIZE))
    got = bytearray()
    while len(got) < size:
        count = server.read(buffer)
        assert count <= PLAINTEXT_SIZE
        assert not server.ended
        got += buffer[:count]
        if not sent:
            with contextlib.suppress(BlockingIOError):
                sent = client.flush()
    assert bytes(got) == payload
    client.close()
    assert server.read(buffer) == 0
    assert server.ended == "the other side ended the connection"
    server.close()
