"""Dials destinations: a name is resolved once, each address is judged, and that address is dialled.

Judging the resolved address and dialling the very same one leaves no room for a name that
resolves to something else the second time (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from ipaddress import IPv4Network, ip_address
from typing import Final

from common.refusals import Refusal
from common.sockets import end_with_reset, tune
from reverse_proxy.resolver import is_address, literal, resolve

DIAL_TIMEOUT_S: Final = 10.0
"""Seconds for one address to answer; the kernel alone would try for two minutes."""

_LOOPBACK: Final = IPv4Network("127.0.0.0/8")
_BIND_ADDRESS_NO_PORT: Final = 24
"""IP_BIND_ADDRESS_NO_PORT (linux/in.h): the port is chosen by connect, for each destination."""
_NON_BLOCKING: Final = getattr(socket, "SOCK_NONBLOCK", 0)

Judge = Callable[[str, str, int], Refusal | None]
"""Takes the host as asked for, an address of it and the port; says why it may not be dialled."""


class Dial:
    """One attempt to reach a destination; ends with one of the callbacks, unless cancelled.

    Args:
        host: an address, or a name to be resolved here.
        judge: asked for every address before it is dialled.
        on_connected: takes over the connected, non-blocking socket.
        on_refused: told why there is none.
        source: the loopback address to come from; empty: the system chooses.
    """

    __slots__ = (
        "_addresses",
        "_host",
        "_judge",
        "_loop",
        "_on_connected",
        "_on_refused",
        "_port",
        "_refusal",
        "_resolving",
        "_sock",
        "_source",
        "_timer",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: str,
        port: int,
        judge: Judge,
        on_connected: Callable[[socket.socket], None],
        on_refused: Callable[[Refusal], None],
        source: str = "",
    ) -> None:
        self._loop = loop
        self._source = source
        self._host, self._port = host, port
        self._judge = judge
        self._on_connected, self._on_refused = on_connected, on_refused
        self._addresses: list[str] = []
        self._refusal: Refusal | None = None  # of the address tried first: it says the most
        self._resolving: asyncio.Task[None] | None = None
        self._sock: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin; a callback may be called before this returns."""
        found = literal(self._host)
        if isinstance(found, Refusal):
            self._on_refused(found)
            return
        self._host = found[0]
        if found[1]:
            self._addresses = [self._host]
            self._next()
        else:
            self._resolving = self._loop.create_task(self._resolve())

    def cancel(self) -> None:
        """Give up; no callback follows."""
        if self._resolving is not None:
            self._resolving.cancel()
        self._drop()

    async def _resolve(self) -> None:
        """Turn the name into addresses. A task of its own: only names take this path."""
        found = await resolve(self._loop, self._host, self._port)
        self._resolving = None
        if isinstance(found, Refusal):
            self._on_refused(found)
        else:
            self._addresses = found
            self._next()

    def _next(self) -> None:
        """Dial the next address that may be dialled."""
        while self._addresses:
            address = self._addresses.pop(0)
            refusal = self._judge(self._host, address, self._port) or self._not_loopback(address)
            if refusal is None:
                if self._dial(address):
                    return
            elif self._refusal is None:
                self._refusal = refusal
        self._on_refused(
            self._refusal or Refusal("unresolved", f"{self._host!r} has no address here")
        )

    def _not_loopback(self, address: str) -> Refusal | None:
        if not self._source or (is_address(address) and ip_address(address) in _LOOPBACK):
            return None
        return Refusal(
            "not-loopback",
            f"{self._host!r} is at {address}: an address 127.x.y.z reaches destinations in"
            f" {_LOOPBACK} only; use proxy-v1 or proxy-v2 instead of loopback",
        )

    def _dial(self, address: str) -> bool:
        """Start to connect; return False if that failed at once."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | _NON_BLOCKING)
        except OSError as error:
            self._note(address, error.errno or errno.EMFILE)
            return False
        self._sock = sock
        if not _NON_BLOCKING:
            sock.setblocking(False)
        tune(sock)
        end_with_reset(sock)
        try:
            if self._source:
                sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
                sock.bind((self._source, 0))
            code = sock.connect_ex((address, self._port))
            if code == errno.EINPROGRESS:
                # A destination on this machine has answered by now; asking costs less than waiting.
                code = sock.connect_ex((address, self._port))
                code = {errno.EALREADY: errno.EINPROGRESS, errno.EISCONN: 0}.get(code, code)
        except OSError as error:  # an IPv6 zone that this machine does not have
            code = error.errno or errno.EADDRNOTAVAIL
        if code == 0:
            self._connected()
        elif code == errno.EINPROGRESS:
            self._loop.add_writer(sock.fileno(), self._on_writable, address)
            self._timer = self._loop.call_later(DIAL_TIMEOUT_S, self._failed, address, None)
        else:
            self._drop()
            self._note(address, code)
            return False
        return True

    def _on_writable(self, address: str) -> None:
        assert self._sock is not None  # noqa: S101 - registered with the socket only
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._failed(address, code)
        else:
            self._connected()

    def _connected(self) -> None:
        sock, self._sock = self._sock, None
        assert sock is not None  # noqa: S101 - see above
        self._settle(sock)
        self._on_connected(sock)

    def _failed(self, address: str, code: int | None) -> None:
        self._drop()
        self._note(address, code)
        self._next()

    def _note(self, address: str, code: int | None) -> None:
        if self._refusal is None:
            words = os.strerror(code) if code else f"no answer within {DIAL_TIMEOUT_S:g} s"
            where = address if address == self._host else f"{self._host} ({address})"
            self._refusal = Refusal("unreachable", f"{where} port {self._port}: {words}")

    def _drop(self) -> None:
        if self._sock is not None:
            self._settle(self._sock)
            self._sock.close()
            self._sock = None

    def _settle(self, sock: socket.socket) -> None:
        if self._timer is not None:
            self._loop.remove_writer(sock.fileno())
            self._timer.cancel()
            self._timer = None
