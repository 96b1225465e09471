"""Replies to datagrams come from the address that the datagrams were sent to.

A UDP socket that is bound to all addresses of a machine would send its replies from whichever one
the routing table likes, and a client that is connected to another would never see them. So the
kernel is asked for the address of each datagram (RFC 3542, section 6; ip(7), IP_PKTINFO), and the
reply names it again. Linux; elsewhere, and on a socket bound to one address, nothing is asked.
"""

from __future__ import annotations

import socket
import sys
from ipaddress import ip_address
from typing import Final

_IP_PKTINFO: Final = 8  # linux/in.h
_IPV6_RECVPKTINFO: Final = 49  # linux/in6.h
_IPV6_PKTINFO: Final = 50
_ROOM: Final = socket.CMSG_SPACE(20) if hasattr(socket, "CMSG_SPACE") else 0

Address = tuple[str, int] | tuple[str, int, int, int]
"""As a socket gives it, IPv6 with its flow label and scope."""
Peer = tuple[Address, bytes]
"""Whose a datagram is, and how it came in: what :meth:`Replies.send` needs for an answer."""


class Replies:
    """Receives and sends on one bound, non-blocking UDP socket, which is its owner's."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._level = self._kind = 0
        if not sys.platform.startswith("linux"):
            return
        if not ip_address(sock.getsockname()[0]).is_unspecified:
            return
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
            self._level, self._kind = socket.IPPROTO_IPV6, _IPV6_PKTINFO
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            self._level, self._kind = socket.IPPROTO_IP, _IP_PKTINFO

    def receive(self, size: int) -> tuple[bytes, Peer]:
        """Return the next datagram, cut to ``size`` bytes, and whose it is.

        Raises:
            OSError: there is none (as ``BlockingIOError``), or an error of an earlier one.
        """
        if not self._kind:
            data, address = self._sock.recvfrom(size)
            return data, (address, b"")
        data, extras, _, address = self._sock.recvmsg(size, _ROOM)
        for level, kind, info in extras:
            if (level, kind) == (self._level, self._kind):
                return data, (address, self._answer(info))
        return data, (address, b"")

    def send(self, data: bytes | memoryview, peer: Peer) -> None:
        """Send a datagram to the peer, from the address that it knows.

        Raises:
            OSError: it cannot be sent now.
        """
        address, info = peer
        if info:
            self._sock.sendmsg([data], [(self._level, self._kind, info)], 0, address)
        else:
            self._sock.sendto(data, address)

    def _answer(self, info: bytes) -> bytes:
        """Turn what came with a datagram into what goes with its answer: the address alone.

        The interface is the routing table's choice, but where an address means nothing without it.
        """
        if self._kind == _IP_PKTINFO:  # interface, our address, and the one in the header
            return bytes(4) + info[4:8] + bytes(4)
        link_local = info[0] == 0xFE and info[1] & 0xC0 == 0x80
        return info if link_local else info[:16] + bytes(4)
