"""PROXY protocol headers, read by a parser that knows nothing of how they are written."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from common.addresses import HostPort
from reverse_proxy.proxy_protocol import SIGNATURE, header

# Two ends: a kind (text, IPv4 or IPv6), two bytes of port, a length, and so many bytes of host.
SEEDS: Final = (
    b"\x01\x12\x67\x04\xc0\x00\x02\x07\x01\x00\x50\x04\x7f\x00\x00\x01",
    b"\x02\x12\x67\x10" + bytes(15) + b"\x01\x02\x00\x50\x10" + bytes(10) + b"\xff\xff\x7f\0\0\1",
    b"\x01\x00\x00\x04\x0a\0\0\1\x02\xff\xff\x10\x20\x01\x0d\xb8" + bytes(11) + b"\x07",
    b"\x00\x00\x50\x00\x00\x00\x50\x00",
    b"\x00\x00\x50\x10::ffff:192.0.2.1\x00\x00\x51\x10::ffff:10.0.0.1",
    b"\x00\x00\x50\x10::ffff:192.0.2.1\x01\x00\x51\x04\x0a\0\0\1",
    b"\x00\x00\x50\x0cfe80::1%eth0\x00\x00\x50\x10::ffff:192.0.2.1",
    b"\x00\x00\x50\x09192.0.2.7\x00\x00\x50\x0aa.b\r\nPROXY",
)
WORDS: Final = (
    *(b"::ffff:", b"192.0.2.7", b"fe80::1", b"%", b"\r\n", b" ", b"::", b"\xff\xff"),
    bytes(10) + b"\xff\xff",
)
End = tuple[IPv4Address | IPv6Address, int]


def ends(data: bytes) -> tuple[HostPort, HostPort] | None:
    """Make two ends of ``data``."""
    made = []
    for _ in range(2):
        if len(data) < 4:
            return None
        kind, port, size = data[0] % 3, int.from_bytes(data[1:3], "big"), data[3]
        host, data = data[4 : 4 + size], data[4 + size :]
        if kind == 1 and len(host) == 4:
            made.append(HostPort(str(IPv4Address(host)), port))
        elif kind == 2 and len(host) == 16:
            made.append(HostPort(str(IPv6Address(host)), port))
        else:
            made.append(HostPort(host.decode("utf-8", "replace"), port))
    return made[0], made[1]


def read_text(data: bytes) -> tuple[End, End] | None:
    assert data.endswith(b"\r\n")
    assert len(data) <= 107  # section 2.1
    words = data[:-2].decode("ascii").split(" ")
    if words == ["PROXY", "UNKNOWN"]:
        return None
    proxy, family, source, destination, source_port, destination_port = words
    assert proxy == "PROXY"
    assert family in ("TCP4", "TCP6")
    kind = IPv4Address if family == "TCP4" else IPv6Address
    for port in (source_port, destination_port):
        assert str(int(port)) == port
    return (kind(source), int(source_port)), (kind(destination), int(destination_port))


def read_binary(data: bytes) -> tuple[End, End] | None:
    assert data[:12] == bytes.fromhex("0d0a0d0a000d0a515549540a") == SIGNATURE
    assert len(data) == 16 + int.from_bytes(data[14:16], "big")
    if data[12] == 0x20:
        assert data[13:] == bytes(3)
        return None
    assert data[12] == 0x21
    size = {0x11: 4, 0x21: 16}[data[13]]
    source, destination = data[16 : 16 + size], data[16 + size : 16 + 2 * size]
    ports = data[16 + 2 * size :]
    assert len(ports) == 4
    kind = IPv4Address if size == 4 else IPv6Address
    return (
        (kind(source), int.from_bytes(ports[:2], "big")),
        (kind(destination), int.from_bytes(ports[2:], "big")),
    )


def meant(host: str) -> IPv6Address | None:
    """Return the address as IPv6, IPv4 mapped; ``None`` if it is none."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return IPv6Address(f"::ffff:{address}")
    return address


def check(data: bytes) -> None:
    both = ends(data)
    if both is None:
        return
    source, destination = both
    told = read_text(header(1, source, destination))
    assert read_binary(header(2, source, destination)) == told
    expected = meant(source.host), meant(destination.host)
    if told is None:
        assert None in expected
        return
    for (address, port), wanted, end in zip(told, expected, both, strict=True):
        assert meant(str(address)) == wanted
        assert port == end.port
    # IPv4 only where both are.
    both_mapped = all(each is not None and each.ipv4_mapped is not None for each in expected)
    assert (told[0][0].version == 4) == both_mapped
