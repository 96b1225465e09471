"""First bytes: what a connection is taken for, before anybody has said a word to it."""

from __future__ import annotations

import contextlib
import re
import ssl
from typing import Final

from common.wire import ALPN
from relay_server.public.first_bytes import MOST, Http, Other, Tls, Tunnel, classify


def client_hello(name: str | None, *protocols: str) -> bytes:
    """Return what OpenSSL says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    session = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


def short_hello(extensions: bytes) -> bytes:
    """Return a ClientHello with next to nothing in it but ``extensions``."""
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0"
    body += len(extensions).to_bytes(2, "big") + extensions
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message


SNI: Final = b"\0\0\0\x08\0\x06\0\0\x03a.b"
OURS: Final = b"\0\x10\0\x0e\0\x0c\x0btcp-relay/1"
HELLO: Final = short_hello(SNI + OURS)
# The first byte says where to cut.
SEEDS: Final = tuple(
    b"\x20" + data
    for data in (
        HELLO,
        short_hello(SNI),
        short_hello(OURS),
        short_hello(b""),
        HELLO[:3] + b"\0\x05" + HELLO[5:10] + HELLO[:3] + bytes([0, len(HELLO) - 10]) + HELLO[10:],
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"M-SEARCH * HTTP/1.1\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x80\x2e\x01\x03\x01",
    )
)
WORDS: Final = (
    *(SNI, OURS, b"\x16\x03\x01", b"\x16\x03\x03\0\x01", b"\0\x10", b"\0\0", b"tcp-relay/1"),
    *(b"GET ", b" HTTP/1.1\r\n", b" HTTP/1.0\n", b" / ", b"\0\x12\0\0"),
)
NAME: Final = re.compile(r"[a-z0-9_.-]{0,253}")


def check(data: bytes) -> None:
    if len(data) < 2:
        return
    first = data[1:]
    verdict = classify(first)
    if verdict is None:
        assert classify(first, ended=True) == Other()
        assert len(first) < MOST
    else:
        assert classify(first, ended=True) == verdict
        assert classify(first + b"GET / ") == verdict
    # What is decided stays decided: no shorter piece says anything else.
    for end in {1 + data[0] % len(first), len(first) - 1, len(first) // 2} - {0}:
        early = classify(first[:end])
        assert early is None or early == verdict
    match verdict:
        case Tls(sni):
            assert first[0] == 0x16
            assert sni is None or (NAME.fullmatch(sni) and sni.isascii())
        case Tunnel():
            assert first[0] == 0x16
            assert sum(first.count(byte) for byte in set(ALPN.encode())) >= len(ALPN)
        case Http():
            assert re.match(rb"[A-Z-]+ [^ ]* HTTP/[12]\.[0-9]\r?\n", first)
        case _:
            pass
