"""What a connection is by its first bytes, in whatever pieces they come."""

from __future__ import annotations

import ssl
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.wire import ALPN
from relay_server.public.first_bytes import (
    MOST,
    MOST_RECORDS,
    Http,
    Other,
    Silent,
    Tls,
    Tunnel,
    Verdict,
    classify,
)


def hello(sni: str | None = None, alpn: list[str] | None = None, old: bool = False) -> bytes:
    """Return a ClientHello as OpenSSL makes it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(alpn)
    if old:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=sni).do_handshake()
    return out.read()


def records(message: bytes, sizes: list[int]) -> bytes:
    """Return a handshake message in records of these sizes; the rest is in a last one."""
    made, at = b"", 0
    for size in [*sizes, len(message)]:
        part = message[at : at + size]
        at += len(part)
        if part:
            made += b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part
    return made


def vector(length_bytes: int, data: bytes) -> bytes:
    return len(data).to_bytes(length_bytes, "big") + data


def extension(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, body)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names)))


def alpn(*names: bytes) -> bytes:
    return extension(16, vector(2, b"".join(vector(1, name) for name in names)))


def made(extensions: bytes, after: bytes = b"") -> bytes:
    """Return the message of a ClientHello with these extensions."""
    body = b"\x03\x03" + bytes(32) + vector(1, b"") + vector(2, b"\x13\x01") + vector(1, b"\x00")
    return b"\x01" + vector(3, body + vector(2, extensions) + after)


def in_pieces(data: bytes, step: int = 1) -> tuple[int, Verdict | None]:
    """Return after how many bytes the verdict came, and which."""
    for end in range(1, len(data) + step, step):
        verdict = classify(data[:end], ended=False)
        if verdict is not None:
            return min(end, len(data)), verdict
    return len(data), None


HELLOS = [
    pytest.param(hello("app.example.org"), Tls("app.example.org"), id="tls"),
    pytest.param(hello(), Tls(None), id="without-name"),
    pytest.param(hello("a.b", ["h2", "http/1.1"]), Tls("a.b"), id="other-alpn"),
    pytest.param(hello("a.b", old=True), Tls("a.b"), id="tls-1.2"),
    pytest.param(hello(None, [ALPN]), Tunnel(), id="tunnel"),
    pytest.param(hello("relay.example.org", ["h2", ALPN]), Tunnel(), id="tunnel-and-more"),
]


@pytest.mark.parametrize(("data", "verdict"), HELLOS)
def test_a_client_hello_byte_by_byte(data: bytes, verdict: Verdict) -> None:
    assert in_pieces(data) == (len(data), verdict)
    assert classify(data + b"\x17\x03\x03 and what comes next") == verdict
    assert classify(data[:-1], ended=True) == Other()


@pytest.mark.parametrize(("data", "verdict"), HELLOS)
@pytest.mark.parametrize("sizes", [[1], [3], [4], [5, 1, 1, 200], [17] * 30, [100, 1]])
def test_a_client_hello_over_several_records(
    data: bytes, verdict: Verdict, sizes: list[int]
) -> None:
    split = records(data[5:], sizes)
    assert classify(split) == verdict
    assert in_pieces(split) == (len(split), verdict)


def test_a_large_client_hello() -> None:
    message = made(extension(0x1234, bytes(12_000)) + server_name(b"a.b"))
    assert in_pieces(records(message, [4000, 4000]), 999)[1] == Tls("a.b")
    larger = records(made(extension(0x1234, bytes(MOST)) + server_name(b"a.b")), [])
    assert classify(larger) == Other()


@pytest.mark.parametrize(
    ("extensions", "verdict"),
    [
        (b"", Tls(None)),
        (server_name(b"WWW.Example.org"), Tls("www.example.org")),
        (server_name(b"a.b."), Tls("a.b")),
        (server_name(b"_x.a-b.c"), Tls("_x.a-b.c")),
        (server_name(b"a.b", kind=1), Tls(None)),
        (extension(0x0A0A, b"") + server_name(b"a.b") + extension(0x1A1A, b"\x00"), Tls("a.b")),
        (alpn(b"h2") + server_name(b"a.b"), Tls("a.b")),
        (alpn(b"h2", ALPN.encode()), Tunnel()),
        (alpn(ALPN.encode() + b"0"), Tls(None)),
        (alpn(ALPN.upper().encode()), Tls(None)),
        (extension(17, vector(2, vector(1, ALPN.encode()))), Tls(None)),
        # What no stack sends, and what two readers could read in two ways.
        (server_name(b"a.b") + server_name(b"c.d"), Other()),
        (server_name(b"a.b", b"c.d"), Other()),
        (alpn(b"h2") + alpn(ALPN.encode()), Other()),
        (extension(0, vector(2, b"\x00" + vector(2, b"a.b")) + b"x"), Other()),
        (extension(0, b"\x00\x09\x00\x00\x03a.b"), Other()),
        (extension(0, b""), Other()),
        (extension(16, b"\x00\x03\x05h2"), Other()),
        (extension(5, b"x")[:-1], Other()),
        (server_name(b""), Other()),
        (server_name(b"a b"), Other()),
        (server_name(b"a.b\x00.c"), Other()),
        (server_name(b"a" * 254), Other()),
        (server_name("bücher".encode()), Other()),
        (server_name(b"*.a"), Other()),
    ],
)
def test_extensions(extensions: bytes, verdict: Verdict) -> None:
    assert classify(records(made(extensions), [])) == verdict


def test_a_client_hello_without_extensions() -> None:
    body = b"\x03\x03" + bytes(32) + vector(1, b"") + vector(2, b"\x00\x2f") + vector(1, b"\x00")
    assert classify(records(b"\x01" + vector(3, body), [])) == Tls(None)
    assert classify(records(b"\x01" + vector(3, body[:-3]), [])) == Other()
    assert classify(records(made(server_name(b"a.b"), after=b"x"), [])) == Other()


@pytest.mark.parametrize(
    ("data", "decided_after"),
    [
        (b"\x16\x02\x01\x00\x10", 2),
        (b"\x16\x03\x01\x00\x00", 5),
        (b"\x16\x03\x01\x40\x01", 5),
        (b"\x16\x03\x01\x00\x40\x02\x00", 6),  # a ServerHello
        (b"\x16\x03\x01\x00\x40\x01\x00\x40\x01", 9),  # longer than is looked at
        (b"\x16\x03\x01\x00\x02\x01\x00\x17\x03", 8),  # not a handshake record
        (b"\x16\x03\x01\x00\x01\x01\x16\x04", 8),
        (b"\x80\x2e\x01\x03\x01", 1),  # SSL 2.0
    ],
)
def test_what_is_not_tls_is_seen_early(data: bytes, decided_after: int) -> None:
    assert in_pieces(data + bytes(100)) == (decided_after, Other())


@pytest.mark.parametrize(
    ("data", "decided_after"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 16),
        (b"GET / HTTP/1.0\nHost: a\n\n", 15),
        (b"OPTIONS * HTTP/1.1\r\n", 20),
        (b"CONNECT a.b:443 HTTP/1.1\r\n", 26),
        (b"VERSION-CONTROL /\xc3\xbc?x=%20 HTTP/1.1\r\n", 36),
        (b"GET http://a.b/ HTTP/1.1\r\n", 26),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 16),
        (b"GET /" + b"a" * 16_000 + b" HTTP/1.1\r\n", 16_016),
    ],
)
def test_http_is_known_by_its_first_line(data: bytes, decided_after: int) -> None:
    step = 1 if len(data) < 1000 else 7
    after, verdict = in_pieces(data, step)
    assert verdict == Http()
    assert decided_after <= after < decided_after + step


@pytest.mark.parametrize(
    ("data", "decided_after"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n", 5),
        (b"EHLO x\r\n", 7),
        (b"QUIT\r\n", 5),
        (b"USER anonymous\r\n", 15),
        (b"GET /\r\n", 6),
        (b"GET / \r\n", 7),
        (b"GET /a b HTTP/1.1\r\n", 8),
        (b"GET / HTTP/1.12\r\n", 15),
        (b"GET / HTTP/3.0\r\n", 12),
        (b"GET / http/1.1\r\n", 7),
        (b"GET / HTTP/1.1 \r\n", 15),
        (b"GET / HTTP/1.1\rX", 16),
        (b"GET / TTTTTTTTT", 7),
        (b"GET\t/ HTTP/1.1\r\n", 4),
        (b"GET /\x00 HTTP/1.1\r\n", 6),
        (b"get / HTTP/1.1\r\n", 1),
        (b" GET / HTTP/1.1\r\n", 1),
        (b"\r\nGET / HTTP/1.1\r\n", 1),
        (b"-GET / HTTP/1.1\r\n", 1),
        (b"A" * 21 + b" / HTTP/1.1\r\n", 21),
        (b"\x00", 1),
        (b"\x03\x00\x00\x13\x0e", 1),  # RDP
        (b"\xff\xfd\x18", 1),  # telnet
    ],
)
def test_what_is_not_http_is_seen_early(data: bytes, decided_after: int) -> None:
    assert in_pieces(data) == (decided_after, Other())


@pytest.mark.parametrize("data", [b"G", b"GET", b"GET ", b"GET /", b"GET / HTTP/1.", b"\x16\x03"])
def test_the_end_decides(data: bytes) -> None:
    assert classify(data, ended=False) is None
    assert classify(data, ended=True) == Other()


def test_nothing_stays_undecided_after_so_many_bytes() -> None:
    endless = b"GET /" + b"a" * MOST
    assert classify(endless[: MOST - 1]) is None
    assert classify(endless[:MOST]) == Other()
    assert classify(endless) == Other()
    tls = records(made(extension(0x1234, bytes(MOST - 100))), [])
    assert classify(tls[: MOST - 60]) is None
    tiny = b"\x16\x03\x01\x00\x01" + b"\x16\x03\x01\x00\x01".join(
        bytes([byte]) for byte in made(extension(0x1234, bytes(500)))
    )
    assert in_pieces(tiny) == (MOST_RECORDS * 6, Other())


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * (MOST - 6),
        b"GET /" + b"HTTP/1.1" * (MOST // 8 - 1),
        b"\x16\x03\x01\x00\x01"
        + b"\x16\x03\x01\x00\x01".join([b"\x01", b"\x00", b" ", *[b"\x00"] * 60]),
        records(made(extension(0x1234, bytes(MOST - 100))), [])[:-1],
    ],
    ids=["target", "versions", "records", "hello"],
)
def test_a_look_costs_little(data: bytes) -> None:
    start = time.perf_counter()
    for _ in range(100):
        assert classify(data) is None
    assert time.perf_counter() - start < 1.0


REAL = hello("app.example.org", ["h2"])
words = [b"GET", b" ", b"/", b"HTTP/1.1", b"HTTP/", b"1.1", b"\r", b"\n", b"A", b"-", b"\xff"]
words += [b"\x16", b"\x03\x01", b"\x00\x05", b"\x01\x00", REAL[:11], REAL[5:60], REAL]
pieces = st.lists(st.sampled_from(words) | st.binary(max_size=4), min_size=1).map(b"".join)
mutated = st.builds(
    lambda at, byte: REAL[:at] + bytes([byte]) + REAL[at + 1 :],
    st.integers(0, len(REAL) - 1),
    st.integers(0, 255),
)
something = (st.binary(min_size=1) | pieces | mutated).filter(bool)


@given(something, st.data())
@example(b"GET /a b HTTP/1.1\r\n", None)
def test_what_is_decided_stays_decided(data: bytes, choices: st.DataObject | None) -> None:
    whole = classify(data)
    ends = list(range(1, len(data)))
    if choices is not None and len(data) > 40:
        ends = sorted(choices.draw(st.sets(st.integers(1, len(data)), max_size=20)))
    for end in ends:
        assert classify(data[:end]) in (None, whole)
    assert not isinstance(whole, Silent)
    assert classify(data, ended=True) == (whole or Other())


@given(st.lists(st.integers(1, 300), max_size=20), st.sampled_from(HELLOS))
def test_however_the_records_are_cut(sizes: list[int], case: object) -> None:
    data, verdict = case.values  # type: ignore[attr-defined]
    assert classify(records(data[5:], sizes)) == verdict
