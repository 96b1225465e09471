"""A source's bytes through all three programs and back."""

from __future__ import annotations

import hashlib
import os
import socket
import threading

from tests.programs.ends import TcpServer, connected, receive_all
from tests.programs.harness import Suite

MIB = 1024 * 1024


def test_bytes_go_through_unchanged_in_both_directions(
    suite: Suite, echo_server: TcpServer
) -> None:
    relay, _, _, entrance = suite.chain(echo_server.address)
    payload = os.urandom(64 * MIB)
    with connected(entrance) as sock:

        def send() -> None:
            sock.sendall(payload)
            sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        returned = receive_all(sock)
        sender.join()
    assert hashlib.sha256(returned).digest() == hashlib.sha256(payload).digest()
    assert relay.metric("bytes_spliced") > 1.8 * len(payload)
    assert relay.metric("bytes_copied") < len(payload) / 10  # handshakes, first messages


def test_half_close_lets_the_other_side_answer(suite: Suite) -> None:
    reply = os.urandom(64 * MIB)
    asked = threading.Event()

    def answer(sock: socket.socket) -> None:
        assert receive_all(sock) == b"question"
        asked.set()
        sock.sendall(reply)

    with TcpServer(answer) as server:
        *_, entrance = suite.chain(server.address)
        with connected(entrance) as sock:
            sock.sendall(b"question")
            sock.shutdown(socket.SHUT_WR)
            assert receive_all(sock) == reply
    assert asked.is_set()
