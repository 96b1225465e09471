"""Web services behind host names at the relay, and what a visitor asks of them."""

from __future__ import annotations

import re
import socket

from common.addresses import HostPort
from tests.programs.ends import TcpServer
from tests.programs.harness import Program, Suite
from tests.programs.test_clients import read_head


class Site:
    """A web service that answers with its name and what it was told, on kept connections."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.server = TcpServer(self._serve)

    def _serve(self, sock: socket.socket) -> None:
        with sock.makefile("rb") as lines:
            while first := lines.readline():
                fields = []
                while (line := lines.readline()) not in (b"", b"\r\n"):
                    fields.append(line)
                length = sum(
                    int(each.split(b":")[1]) for each in fields if each.startswith(b"Content-Le")
                )
                body = lines.read(length)
                told = first + b"".join(sorted(fields)) + body
                answer = self.name.encode() + b"\n" + told
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer))
                if not first.startswith(b"HEAD"):
                    sock.sendall(answer)

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()

    @property
    def address(self) -> HostPort:
        return self.server.address


def ask(sock: socket.socket, host: str, path: str = "/", method: str = "GET") -> tuple[int, bytes]:
    """Send one request and return status and body of the answer, which has a length."""
    sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    head = read_head(sock)
    (length,) = re.findall(rb"(?i)content-length: (\d+)", head)
    body = b""
    while method != "HEAD" and len(body) < int(length):
        body += sock.recv(int(length) - len(body))
    return int(head.split()[1]), body


def names_relay(suite: Suite, *args: str) -> tuple[Program, HostPort]:
    relay = suite.relay("--domain", "fidb.app", "--http-port", "0", *args)
    return relay, relay.addresses()[1]
