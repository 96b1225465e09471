"""Exposures: what is written, and whether the relay can understand what is then asked of it."""

from __future__ import annotations

from typing import Final

from common.errors import RouteError
from common.exposure_grammar import Exposure, parse_exposures
from common.key_options import KeyOptions
from common.keys import PublicKey
from common.refusals import Refusal
from common.trusted_keys import TrustedKey
from common.wire import Expose, MessageReader, encode
from relay_server.public.claims import Claims
from tests.fuzz.harnesses.routes import too_wide
from tests.fuzz.outcome import outcome

TEXTS: Final = (
    (
        "80:80",
        "2222:192.168.1.5:22,proxy-v1",
        "203.0.113.0/24:2222:22",
        "53:53/udp",
        "0:22,443:443,raw",
        "443:443,raw,proxy-v2,80:80,loopback",
        "[2001:db8::/32]:5001-5003:[::1]:80-82",
    ),
    (
        "app:8080",
        "www.example.org:8080",
        "*.example.org:10.0.0.1:8080",
        "app:8080,host=intranet",
        "app:8080,host=intranet.lan:81",
        "App.:intranet.lan:80",
        "a..:80",
        "*. a:80",
        "app:80,host=a :80",
    ),
    ("app:8443", "app:8443,raw", "*.a.b:[::1]:443,proxy-v2,c:1,loopback"),
)
FLAGS: Final = ("expose", "http", "https")
SEEDS: Final = tuple(
    bytes([kind]) + text.encode() for kind, texts in enumerate(TEXTS) for text in texts
)
WORDS: Final = (
    *(b":", b"[", b"]", b"/udp", b"/8", b"-", b",", b"0:", b"65535", b"::1", b"*.", b"%", b"."),
    *(b",proxy-v1", b",proxy-v2", b",loopback", b",raw", b",host=", b"127.0.0.1", b"10.0.0.0/8"),
    *(b" ", b"\t", "\u212a".encode(), "\u0661".encode(), b"\n", b"xn--"),
)
ANY_KEY: Final = TrustedKey(PublicKey(bytes(32)), KeyOptions(), "keys", 1)


def read(kind: str, texts: list[str]) -> tuple[Exposure, ...]:
    if kind == "http":
        return parse_exposures(http=texts)
    return parse_exposures(https=texts) if kind == "https" else parse_exposures(expose=texts)


def check_one(exposure: Exposure, flag: str) -> None:
    assert read(flag, str(exposure).split(",")) == (exposure,)
    assert bool(exposure.name) == (exposure.kind in ("http", "https"))
    assert 1 <= exposure.target_port <= 65535
    source = "" if exposure.source is None else str(exposure.source)
    asked = Expose(
        7,
        exposure.kind,
        exposure.name,
        exposure.port,
        source,
        exposure.raw,
        1.0,
        exposure.host_header,
    )
    reader, told = MessageReader(), encode(asked)
    reader.feed(told[:2])
    if len(exposure.name) > 255 or len(exposure.host_header) > 255:
        return
    assert reader.feed(told[2:]) == asked
    claims = Claims(domain="x.y", http=True, https=True, reserve_s=1.0)
    answer = claims.resolve(asked, "", ANY_KEY)
    if isinstance(answer, Refusal):  # a short name below the domain may be too long together
        assert (answer.code, len(exposure.name) > 200) == ("bad-name", True), answer


def check(data: bytes) -> None:
    if not data:
        return
    flag = FLAGS[data[0] % 3]
    text = data[1:].decode("utf-8", "surrogateescape")
    if too_wide(text):
        return
    texts = [item.strip() for item in text.split(",")]  # as the settings split a list
    found = outcome(RouteError, lambda: read(flag, texts))
    if isinstance(found, RouteError):
        assert str(found)
        return
    for each in found[:3]:
        check_one(each, flag)
