from __future__ import annotations

import socket
import sys

import pytest

from common.sockets import bind_udp
from common.udp_replies import Replies

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="IP_PKTINFO is Linux's")


def client(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.connect((address, port))  # datagrams from elsewhere are not for it
    return sock


def wildcards() -> list[socket.socket]:
    plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    plain.bind(("0.0.0.0", 0))
    return [bind_udp("", 0), plain]


@linux
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "127.9.9.9"])
def test_the_answer_comes_from_the_address_that_was_asked(which: int, address: str) -> None:
    socks = wildcards()
    sock = socks[which]
    sock.setblocking(True)
    replies = Replies(sock)
    with client(address, sock.getsockname()[1]) as asker:
        asker.send(b"hello")
        data, peer = replies.receive(100)
        assert data == b"hello"
        replies.send(b"world", peer)
        assert asker.recv(100) == b"world"
    for each in socks:
        each.close()


@linux
def test_ipv6_as_well() -> None:
    sock = bind_udp("", 0)
    sock.setblocking(True)
    if sock.family != socket.AF_INET6:
        sock.close()
        pytest.skip("no IPv6 here")
    replies = Replies(sock)
    with client("::1", sock.getsockname()[1]) as asker:
        asker.send(b"")
        data, peer = replies.receive(100)
        assert data == b""
        replies.send(b"world", peer)
        assert asker.recv(100) == b"world"
    sock.close()


def test_a_socket_with_one_address_needs_nothing() -> None:
    sock = bind_udp("127.0.0.1", 0)
    sock.setblocking(True)
    replies = Replies(sock)
    with client("127.0.0.1", sock.getsockname()[1]) as asker:
        asker.send(b"hello")
        data, (address, info) = replies.receive(100)
        assert (data, address, info) == (b"hello", asker.getsockname(), b"")
        replies.send(b"world", (address, info))
        assert asker.recv(100) == b"world"
    sock.close()


def test_two_addresses_of_ours_are_two_flows() -> None:
    """A client that asks both gets its answers from both."""
    sock = bind_udp("", 0)
    sock.setblocking(True)
    replies = Replies(sock)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        for address in ("127.0.0.1", "127.0.0.2"):
            asker.sendto(b"?", (address, sock.getsockname()[1]))
        peers = {replies.receive(10)[1] for _ in range(2)}
    assert len(peers) == (2 if sys.platform.startswith("linux") else 1)
    sock.close()
