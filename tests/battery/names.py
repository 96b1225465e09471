"""A name server that can be wrong, silent or half silent: enough of RFC 1035 for getaddrinfo."""

from __future__ import annotations

import socket
import struct
import threading
from ipaddress import ip_address

from tests.battery.namespaces import Site

A, AAAA = 1, 28
_NXDOMAIN, _SERVFAIL = 3, 2


class NameServer:
    """Answers on port 53 of the loopback of each site, which is where its programs ask.

    Attributes:
        records: the addresses, of both families, of each name; may be changed at any time.
        failing: answer SERVFAIL to everything.
        silent: the types of questions (``A``, ``AAAA``) that are not answered at all.
        questions: how many there were.
    """

    def __init__(self, *sites: Site) -> None:
        self.records: dict[str, list[str]] = {}
        self.failing = False
        self.silent: frozenset[int] = frozenset()
        self.questions = 0
        self._sockets = [site.run(_listen) for site in sites]
        self._threads = [
            threading.Thread(target=self._serve, args=(sock,), daemon=True)
            for sock in self._sockets
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        for sock in self._sockets:
            sock.sendto(b"", ("127.0.0.1", 53))
        for thread in self._threads:
            thread.join(10)
        for sock in self._sockets:
            sock.close()

    def __enter__(self) -> NameServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self, sock: socket.socket) -> None:
        while True:
            question, who = sock.recvfrom(4096)
            if not question:  # from close()
                return
            self.questions += 1
            answer = self._answer(question)
            if answer:
                sock.sendto(answer, who)

    def _answer(self, message: bytes) -> bytes:
        labels, at = [], 12
        while size := message[at]:
            labels.append(message[at + 1 : at + 1 + size].decode())
            at += 1 + size
        kind = int.from_bytes(message[at + 1 : at + 3], "big")
        if kind in self.silent:
            return b""
        name = ".".join(labels)
        family = {A: 4, AAAA: 6}.get(kind)
        found = [ip_address(each) for each in self.records.get(name, [])]
        right = [each.packed for each in found if each.version == family]
        code = _NXDOMAIN if name not in self.records else 0
        if self.failing:
            code, right = _SERVFAIL, []
        header = message[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(right), 0, 0)
        records = [
            struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(each)) + each  # kept for 0 seconds
            for each in right
        ]
        return header + message[12 : at + 5] + b"".join(records)


def _listen() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 53))
    return sock
