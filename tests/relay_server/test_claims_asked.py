"""What may be asked for: names made full, and what makes no sense or is not permitted."""

from __future__ import annotations

import pytest

from common.refusals import Refusal
from common.wire import Expose, Kind
from tests.relay_server.claiming import claims, name, port, refused, resolve


@pytest.mark.parametrize(
    ("host", "full"),
    [
        ("app", "app.fidb.app"),
        ("APP", "app.fidb.app"),
        ("app.", "app.fidb.app"),
        ("*.app", "*.app.fidb.app"),
        ("*.com", "*.com.fidb.app"),
        ("www.example.org", "www.example.org"),
        ("WWW.Example.ORG.", "www.example.org"),
        ("*.example.org", "*.example.org"),
        ("fidb.app", "fidb.app"),
        ("*.fidb.app", "*.fidb.app"),
        ("_acme.xn--bcher-kva.example", "_acme.xn--bcher-kva.example"),
        ("a" * 63, "a" * 63 + ".fidb.app"),
        ("1.example", "1.example"),
    ],
)
@pytest.mark.parametrize("kind", ["http", "https"])
def test_a_name_is_made_full(host: str, full: str, kind: Kind) -> None:
    assert resolve(claims(), name(host, kind)) == full
    assert resolve(claims(domain="FIDB.app."), name(host, kind)) == full


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "*",
        "*.",
        "*.*.a",
        "a.*",
        "a*.b",
        "..",
        "a..b",
        "a..",
        ".a",
        "-a",
        "a-",
        "a b",
        " a.b",
        "a.b\n",
        "a/b",
        "a:80",
        "192.0.2.7",
        "*.192.0.2.7",
        "1.2",
        "a.0x7f",
        "::1",
        "[::1]",
        "bücher",
        "\u212aube.example.org",  # the Kelvin sign is a k in lower case
        "a" * 64,
        ".".join(["a"] * 127) + "x",
        "*." + ".".join(["a" * 60] * 4) + ".bcdefghij",
    ],
)
def test_what_is_no_name(host: str) -> None:
    answer = resolve(claims(), name(host))
    assert refused(answer) == "bad-name"
    assert isinstance(answer, Refusal)
    assert "write" in answer.detail or "at most" in answer.detail


def test_a_name_may_not_become_too_long_below_the_domain() -> None:
    domain = ".".join(["d" * 49] * 5)  # 249 characters
    assert resolve(claims(domain), name("abc")) == f"abc.{domain}"
    assert refused(resolve(claims(domain), name("abcd"))) == "bad-name"
    assert refused(resolve(claims(domain), name("*.ab"))) == "bad-name"


def test_a_short_name_needs_a_domain() -> None:
    of = claims(domain="")
    answer = resolve(of, name("app"))
    assert isinstance(answer, Refusal)
    assert answer.code == "no-domain"
    assert "--domain" in answer.detail
    assert resolve(of, name("app.example.org")) == "app.example.org"


@pytest.mark.parametrize(
    ("kind", "flag"), [("http", "--http-port"), ("https", "--https-port")], ids=str
)
def test_a_kind_that_is_not_served(kind: Kind, flag: str) -> None:
    answer = resolve(claims(http=kind != "http", https=kind != "https"), name("app", kind))
    assert isinstance(answer, Refusal)
    assert answer.code == "not-served"
    assert flag in answer.detail


@pytest.mark.parametrize(
    "asked",
    [
        port(80, "10.0.0.1/8"),
        port(80, "somewhere"),
        Expose(1, "udp", "", 53, raw=True),
        Expose(1, "http", "app", 0, raw=True),
        Expose(1, "http", "app", 80),
        Expose(1, "https", "app", 0, "10.0.0.0/8"),
        Expose(1, "tcp", "app", 80),
        *(
            Expose(1, "http", "app", 0, host_header=header)
            for header in ("a\r\nX: y", "a\r\n", "a b", "a:b", "a:0", "a\x00", "a/b", "ü", "\ta")
        ),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(asked: Expose) -> None:
    assert refused(resolve(claims(), asked)) == "bad-exposure"


@pytest.mark.parametrize("header", ["a", "a.b:8080", "localhost", "127.0.0.1:80", "[::1]:80"])
def test_a_host_header(header: str) -> None:
    assert resolve(claims(), Expose(1, "http", "a", 0, host_header=header)) == "a.fidb.app"


def test_a_key_has_what_it_may_have() -> None:
    of = claims()
    options = 'permitlisten="8000-8099",permithost="app.fidb.app,*.example.org"'
    assert resolve(of, port(8000), options) == ""
    assert resolve(of, port(8099, kind="udp"), options) == ""
    assert refused(resolve(of, port(80), options)) == "not-permitted"
    assert refused(resolve(of, port(0), options)) == "not-permitted"
    assert resolve(of, name("APP"), options) == "app.fidb.app"
    assert resolve(of, name("*.www.example.org"), options) == "*.www.example.org"
    assert refused(resolve(of, name("example.org"), options)) == "not-permitted"
    assert refused(resolve(of, name("*.fidb.app"), options)) == "not-permitted"
