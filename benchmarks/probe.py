"""Whether a system that was started really carries bytes to its destination and back."""

from __future__ import annotations

import http.client
import os
import socket
import time
from typing import Final

from benchmarks.load.talk import HEAD_SIZE, REQUEST, connect_to, head, receive_exactly
from benchmarks.processes import UnavailableError
from benchmarks.systems.base import System

DEADLINE_S: Final = 10.0
"""Seconds for the first bytes to come back; programs listen before they are connected."""


def wait_serving(system: System) -> None:
    """Wait until bytes come back.

    Raises:
        UnavailableError: none do.
    """
    kinds = {"web": _request, "udp": _datagram}
    ask = kinds.get(system.place.variant, _head)
    until = time.monotonic() + DEADLINE_S
    while True:
        try:
            ask(system)
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() > until:
                text = f"nothing comes back through it: {error!r}"
                raise UnavailableError(f"{text}; {_last_words(system)}") from None
            time.sleep(0.05)
        else:
            return


def _head(system: System) -> None:
    data = head(REQUEST)
    with connect_to(system.address) as sock:
        sock.settimeout(3)
        sock.sendall(data)
        if receive_exactly(sock, HEAD_SIZE) != data:
            raise ConnectionError("another reply, or none")


def _request(system: System) -> None:
    connection = http.client.HTTPConnection(*system.address, timeout=3)
    try:
        connection.request("GET", "/", headers={"Host": system.http_host})
        answer = connection.getresponse()
        if answer.status != http.HTTPStatus.OK or answer.read() != b"hello":
            raise ConnectionError(f"HTTP status {answer.status}")
    finally:
        connection.close()


def _datagram(system: System) -> None:
    data = os.urandom(512)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.3)
        sock.connect(system.address)
        sock.send(data)
        if sock.recv(1024) != data:
            raise ConnectionError("another datagram came back")


def _last_words(system: System) -> str:
    return " | ".join(f"{each.name}: {each.log.strip()[-200:]}" for each in system.processes)
