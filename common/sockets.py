"""TCP sockets as the suite wants them: tuned, dual-stack, reset on purpose.

Options used, and one that is not: ``TCP_NODELAY`` everywhere, for frames and handshakes would
wait for delayed ACKs (40 ms). ``SO_KEEPALIVE`` on the users' sockets, so that a user whose machine
vanished is noticed. Never ``TCP_USER_TIMEOUT``: it kills a connection whose reader has merely
stalled (zero window); :func:`is_dead` tells a stalled peer from a dead one instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import sys
from collections.abc import Callable
from typing import Final

from common.addresses import HostPort
from common.errors import SettingError

BACKLOG: Final = 4096
"""Connections the kernel holds for us; it lowers this to ``net.core.somaxconn`` by itself."""

UDP_BUFFER: Final = 4 * 1024 * 1024
"""Bytes of datagrams the kernel holds for us; it lowers this to ``net.core.rmem_max`` by itself."""

RECHECK_S: Final = 0.05
"""Seconds after which a RST behind the bytes that were read is noticed at the latest."""

_ON_LINUX: Final = sys.platform.startswith("linux")
_TCP_INFO_SIZE: Final = 72
_ANSWER_MS: Final = 1000
"""Milliseconds in which a peer that is alive acknowledges what it is sent, or two round trips. Less
where even PINGs follow each other faster: otherwise none would ever be old enough."""
_TCP_CLOSE: Final = 7  # the state of a connection that was reset (Linux: net/tcp_states.h)
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_SEND_AFTER_CLOSE: Final = struct.pack("ii", 0, 0)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening, non-blocking TCP socket; arguments and errors as for :func:`bind_udp`."""
    return _bind(host, port, socket.SOCK_STREAM)


def bind_udp(host: str, port: int) -> socket.socket:
    """Return a bound, non-blocking UDP socket.

    Args:
        host: an IP address, or empty or ``*`` for all addresses, IPv4 and IPv6.
        port: 0 asks for any free one; ``getsockname()`` tells which.

    Raises:
        SettingError: the address cannot be bound; the message says why and what to try.
    """
    return _bind(host, port, socket.SOCK_DGRAM)


def _bind(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    everywhere = host in ("", "*")
    families = [socket.AF_INET6, socket.AF_INET] if everywhere else [_family(host)]
    for family in families:
        address = ("::" if family == socket.AF_INET6 else "0.0.0.0") if everywhere else host  # noqa: S104 - asked for
        try:
            return _bind_one(family, kind, (address, port), dual_stack=everywhere)
        except OSError as error:
            # A machine without IPv6 refuses the family or the address; IPv4 is all it has.
            if family != families[-1] and _is_without_ipv6(error):
                continue
            raise SettingError(
                f"cannot listen on {HostPort(address, port)}: {error.strerror}; {_advice(error)}"
            ) from None
    raise AssertionError("unreachable: families is never empty")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _bind_one(
    family: socket.AddressFamily,
    kind: socket.SocketKind,
    address: tuple[str, int],
    *,
    dual_stack: bool,
) -> socket.socket:
    sock = socket.socket(family, kind)
    tcp = kind == socket.SOCK_STREAM
    try:
        if tcp and sys.platform != "win32":  # there the option lets others take the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual_stack)
        if tcp:
            tune(sock)  # accepted sockets inherit it (Linux)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UDP_BUFFER)
        sock.bind(address)
        if tcp:
            sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _is_without_ipv6(error: OSError) -> bool:
    return error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def _advice(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there; choose another port, or 0 for any free one"
    if error.errno == errno.EACCES:
        return "ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address; see: ip addr"
    return "choose another address or port"


def tune(sock: socket.socket) -> None:
    """Set the options every TCP socket of the suite has."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def keep_alive(sock: socket.socket) -> None:
    """Have the kernel ask a silent peer for a sign of life: nothing of ours does on this socket.

    After half a minute of silence, and three answers that do not come, the connection is reset.
    Never raises; what the system does not know is left out.
    """
    values = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
    for name, value in values.items():
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, option, value)


def end_with_reset(sock: socket.socket) -> None:
    """Make a RST of whatever closes the socket, the end of this process (``kill -9``) included.

    The kernel would end the connections of a killed process with a FIN, which looks like the end
    of the data. What a listening socket accepts inherits it. Never raises.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def close_with_reset(sock: socket.socket) -> None:
    """Close the connection so that the peer sees a RST, never a clean end. Never raises."""
    end_with_reset(sock)
    sock.close()


def close_cleanly(sock: socket.socket) -> None:
    """Close the connection after what the kernel still has to send. Never raises."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _SEND_AFTER_CLOSE)
    sock.close()


def was_reset(sock: socket.socket) -> bool:
    """Whether the connection has ended by a RST. Off Linux never: nobody needs to know there."""
    if not _ON_LINUX:
        return False
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE
    except OSError:  # not a TCP socket
        return False


def check_soon(loop: asyncio.AbstractEventLoop, recheck: Callable[[], None]) -> None:
    """Call ``recheck`` within ``RECHECK_S``, once, however often it is asked for.

    libuv (uvloop) reports an error on a socket once and then watches no longer; asyncio's own loops
    report it until it is read. A reader that was told of bytes and a RST at once, and took the
    bytes, would never hear of the RST. So every reader asks for a check after it has read; the
    check itself is a system call, and is made a few times a second and not after every read.
    """
    if _rechecks.loop is not loop or not _rechecks.wanted:
        _rechecks.loop = loop
        loop.call_later(RECHECK_S, _rechecks.sweep)
    _rechecks.wanted.add(recheck)


class _Rechecks:
    """Who is to be checked at the next sweep; one loop per process, as for the buffers."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.wanted: set[Callable[[], None]] = set()

    def sweep(self) -> None:
        wanted, self.wanted = self.wanted, set()
        for recheck in wanted:
            recheck()


_rechecks: Final = _Rechecks()


def is_dead(sock: socket.socket, silent_s: float) -> bool:
    """Whether the kernel has lost the peer, for a socket nobody reads from at the moment.

    True when the connection was reset, or when nothing was acknowledged for ``silent_s`` seconds
    although two zero-window probes, or the data sent last, should have been. A peer whose reader
    stalls acknowledges what it is sent and is alive, be it for an hour.

    Data may stay unacknowledged that long: a peer that has no room left drops what is on its way,
    and it is sent again ever more rarely, up to two minutes apart. So it is not the age of the
    last acknowledgement alone that counts, but that the last attempt had time to be answered.

    A connection that has ended by FIN on both sides is closed for the kernel, and yet alive: what
    the peer sent last may still wait to be read.

    Off Linux only a reset is noticed.
    """
    try:
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return True
        if not _ON_LINUX:
            return False
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
    except OSError:
        return True
    if info[0] == _TCP_CLOSE:  # a reset would have left its error
        return False
    # struct tcp_info (linux/tcp.h): state 0, probes 3, unacked 24, last_data_sent and
    # last_ack_recv (ms ago) 44 and 56, rtt (us) 68
    (unacknowledged,) = struct.unpack_from("=I", info, 24)
    sent_ms, ack_ms, rtt_us = (struct.unpack_from("=I", info, at)[0] for at in (44, 56, 68))
    if ack_ms <= silent_s * 1000:
        return False
    answer_ms = max(min(_ANSWER_MS, silent_s * 1000 / 8), 2 * rtt_us / 1000)
    unanswered = ack_ms > sent_ms > answer_ms
    return info[3] >= 2 or (unacknowledged > 0 and unanswered)
