"""A relay that does what it wants: it speaks the project's protocol, and pairs as it is told."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from common.addresses import HostPort
from common.tls import proven_key, relay_context
from common.wire import VERSION, Hello, Paired, Purpose, Ready, Role, Trust, Welcome
from tests.programs.evil_client import raw_socket, receive, send
from tests.programs.harness import Suite, wait_for

HEARTBEAT_S = 60.0
"""So long that no client pings within a test."""


class EvilLink:
    """A client that has been welcomed and waits for a partner."""

    def __init__(self, tls: ssl.SSLSocket, hello: Hello, trusts: list[bytes]) -> None:
        self.tls, self.hello, self.trusts = tls, hello, trusts
        self.key = proven_key(tls)
        self._raw: socket.socket | None = None

    @property
    def alive(self) -> bool:
        return not select.select([self.tls], [], [], 0)[0]  # a client that waits says nothing

    def announce(self, partner: bytes, *, opener: bool) -> bool:
        """Say PAIRED; return whether the client is READY for this partner."""
        send(self.tls, Paired(partner, bytes(16), opener, 0))
        try:
            return isinstance(receive(self.tls), Ready)
        except OSError:
            return False

    def pair(self, partner: bytes, *, opener: bool) -> socket.socket:
        """Announce a partner and return the raw socket of the inner session."""
        assert self.announce(partner, opener=opener)
        self._raw = raw_socket(self.tls)
        return self._raw

    def close(self) -> None:
        self.tls.close()
        if self._raw is not None:
            self._raw.close()


class EvilRelay:
    """Welcomes everybody and keeps the links until a test takes them."""

    def __init__(self, suite: Suite) -> None:
        self._context = relay_context(str(suite.path("server.crt")), str(suite.path("server.key")))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = HostPort(*self._listener.getsockname()[:2])
        self._links: list[EvilLink] = []
        self._taken: list[EvilLink] = []
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._welcome, args=(sock,), daemon=True).start()

    def _welcome(self, sock: socket.socket) -> None:
        sock.settimeout(10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            tls = self._context.wrap_socket(sock, server_side=True)
        except OSError:
            sock.close()
            return
        try:
            trusts: list[bytes] = []
            while isinstance(message := receive(tls), Trust):
                trusts += message.keys
            assert isinstance(message, Hello)
            send(tls, Welcome(VERSION, 1, HEARTBEAT_S))
            link = EvilLink(tls, message, trusts)
        except (OSError, AssertionError):
            tls.close()
            return
        self._links.append(link)
        if self._closed:
            link.close()

    def take(self, role: Role, purpose: Purpose = "pair") -> EvilLink:
        """Return a link of the role, and for the purpose, as soon as there is one."""

        def found() -> EvilLink | None:
            for link in list(self._links):
                if (link.hello.role, link.hello.purpose) != (role, purpose):
                    continue
                self._links.remove(link)
                self._taken.append(link)
                if link.alive:
                    return link
                link.close()
            return None

        link = wait_for(found, f"a link of a {role}", step_s=0.002)
        assert link is not None
        return link

    def waiting(self, purpose: Purpose) -> int:
        """Return how many links for the purpose have come, and have not been taken."""
        return sum(link.hello.purpose == purpose for link in list(self._links))

    def join(self, tamper: Tamper | None = None) -> Wire:
        """Pair an entry-point with a reverse-proxy as a relay should, and move their bytes."""
        opener, acceptor = self.take("entry-point"), self.take("reverse-proxy")
        return Wire(
            opener.pair(acceptor.key, opener=True),
            acceptor.pair(opener.key, opener=False),
            tamper,
        )

    def close(self) -> None:
        self._closed = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in self._links + self._taken:
            link.close()

    def __enter__(self) -> EvilRelay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


FORGED = b"\x17\x03\x03\x00\x20" + bytes(range(32))
"""What looks like a record of application data."""

EDITS: dict[str, Callable[[bytes, int], bytes]] = {
    "flip": lambda data, at: data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :],
    "inject": lambda data, at: data[:at] + FORGED + data[at:],
    "drop": lambda data, at: data[:at] + data[at + 1 :],
    "repeat": lambda data, at: data[: at + 1] + data[: at + 1] + data[at + 1 :],
    "zero": lambda data, at: data[:at] + bytes(len(data) - at),
    "fin": lambda data, at: data[:at],
    "rst": lambda data, at: data[:at],
}


@dataclass(frozen=True)
class Tamper:
    """What is done to the bytes of one direction, once.

    Args:
        way: ``up`` is from the opener to the acceptor.
        kind: one of ``EDITS``; ``fin`` and ``rst`` end both sockets there.
        offset: the byte, counted from the first of the direction.
    """

    way: str
    kind: str
    offset: int


class Wire:
    """Moves bytes between two raw sockets, keeps a record, and tampers where it is told."""

    def __init__(
        self, opener: socket.socket, acceptor: socket.socket, tamper: Tamper | None = None
    ) -> None:
        self.tamper = tamper
        self.tampered = threading.Event()
        self.record = {"up": bytearray(), "down": bytearray()}
        """What came from the opener, and what came from the acceptor."""
        self._sockets = opener, acceptor
        self._threads = [
            threading.Thread(target=self._move, args=args, daemon=True)
            for args in (("up", opener, acceptor), ("down", acceptor, opener))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def ended(self) -> bool:
        """Whether both directions have ended."""
        return not any(thread.is_alive() for thread in self._threads)

    def _move(self, way: str, source: socket.socket, sink: socket.socket) -> None:
        source.settimeout(None)
        seen = self.record[way]
        with suppress(OSError):
            while data := source.recv(65536):
                start = len(seen)
                seen += data
                tamper = self.tamper
                if (
                    tamper is not None
                    and tamper.way == way
                    and start <= tamper.offset < start + len(data)
                ):
                    self.tampered.set()
                    sink.sendall(EDITS[tamper.kind](data, tamper.offset - start))
                    if tamper.kind in ("fin", "rst"):
                        self.cut(reset=tamper.kind == "rst")
                        return
                else:
                    sink.sendall(data)
        self.cut()

    def cut(self, *, reset: bool = False) -> None:
        """End both sockets: with a FIN, or with a RST."""
        for sock in self._sockets:
            with suppress(OSError):
                if reset:
                    linger = struct.pack("ii", 1, 0)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    sock.shutdown(socket.SHUT_RD)  # wakes the thread that reads
                    sock.close()
                else:
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(5)
        for sock in self._sockets:
            sock.close()
