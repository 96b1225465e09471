"""What a reverse-proxy makes public: every form, and what is said about what is none."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import RouteError, SettingError
from common.exposure_grammar import Exposure, parse_exposure, parse_exposures, parse_name
from common.wire import MAX_EXPOSURES

LOCAL = "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "exposure"),
    [
        ("80:8080", Exposure("tcp", "", 80, None, LOCAL, 8080)),
        ("0:22", Exposure("tcp", "", 0, None, LOCAL, 22)),
        ("53:10.0.0.5:53/udp", Exposure("udp", "", 53, None, "10.0.0.5", 53)),
        (
            "203.0.113.0/24:2222:22",
            Exposure("tcp", "", 2222, ip_network("203.0.113.0/24"), LOCAL, 22),
        ),
        ("443:db.lan:443,raw", Exposure("tcp", "", 443, None, "db.lan", 443, raw=True)),
        (
            "443:443,raw,proxy-v2",
            Exposure("tcp", "", 443, None, LOCAL, 443, raw=True, inform="proxy-v2"),
        ),
        ("22:22,loopback", Exposure("tcp", "", 22, None, LOCAL, 22, inform="loopback")),
    ],
)
def test_ports(text: str, exposure: Exposure) -> None:
    assert parse_exposure(text) == (exposure,)
    assert parse_exposure(str(exposure)) == (exposure,)


@pytest.mark.parametrize(
    ("text", "kind", "exposure"),
    [
        ("app:8080", "http", Exposure("http", "app", 0, None, LOCAL, 8080)),
        ("App.Example.Org.:db:80", "http", Exposure("http", "app.example.org", 0, None, "db", 80)),
        (
            "*.example.org:8443,raw",
            "https",
            Exposure("https", "*.example.org", 0, None, LOCAL, 8443, raw=True),
        ),
        (
            "a:[::1]:80,host=b:81",
            "http",
            Exposure("http", "a", 0, None, "::1", 80, host_header="b:81"),
        ),
        ("a:443,proxy-v1", "https", Exposure("https", "a", 0, None, LOCAL, 443, inform="proxy-v1")),
    ],
)
def test_names(text: str, kind: str, exposure: Exposure) -> None:
    assert parse_name(text, kind) == exposure  # type: ignore[arg-type]
    assert parse_name(str(exposure), kind) == exposure  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("53:53/udp,raw", "not for UDP"),
        ("53:53/udp,proxy-v1", "not for UDP"),
        ("80:80,fast", "unknown option 'fast'"),
        ("80:80,raw,raw", "given twice"),
        ("80:80,proxy-v1,proxy-v2", "exclude each other"),
        ("80:80,host=a", "unknown option"),
        ("22:10.0.0.1:22,loopback", "loopback"),
        ("80", "80"),
        ("80:0", "0"),
        ("70000:80", "70000"),
        ("", "''"),
    ],
)
def test_no_ports(text: str, said: str) -> None:
    with pytest.raises(RouteError) as error:
        parse_exposure(text)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("app", "http", "no port"),
        ("a:b:c:80", "http", "4 parts"),
        ("app:80,raw", "http", "unknown option 'raw'"),
        ("app:80,proxy-v1", "http", "unknown option"),
        ("app:80,host=a,host=b", "http", "host= is given twice"),
        ("app:80,host=a b", "http", "host=:"),
        ("app:80,host=a:0", "http", "host=:"),
        ("app:80,host=a", "https", "unknown option"),
        ("192.0.2.7:80", "http", "is an address"),
        ("[::1]:80", "http", "is an address"),
        ("bücher:80", "http", "xn--"),
        ("a..b:80", "http", "a..b"),
        ("app:0", "http", "0"),
        ("*.:80", "http", "80"),
    ],
)
def test_no_names(text: str, kind: str, said: str) -> None:
    with pytest.raises(RouteError) as error:
        parse_name(text, kind)  # type: ignore[arg-type]
    assert said in str(error.value)


def test_options_follow_their_item_in_a_list() -> None:
    found = parse_exposures(
        ["443:443", "raw", "80:80", "1-3:11-13"], ["a:1", "host=b"], ["a:2", "raw"]
    )
    assert [(str(each.kind), each.port, each.raw) for each in found] == [
        ("tcp", 443, True),
        ("tcp", 80, False),
        ("tcp", 1, False),
        ("tcp", 2, False),
        ("tcp", 3, False),
        ("http", 0, False),
        ("https", 0, True),
    ]
    assert found[5].host_header == "b"
    with pytest.raises(RouteError, match="--expose"):
        parse_exposures(["raw", "80:80"])


@pytest.mark.parametrize(
    "both",
    [
        (["80:1", "80:2"], []),
        (["1-5:1-5", "3:9"], []),
        (["53:1/udp", "10.0.0.0/8:53:2/udp"], []),
        (["10.0.0.0/8:80:1", "10.0.0.0/8:80:2"], []),
        ([], ["a:1", "A.:2"]),
    ],
)
def test_the_same_is_not_asked_for_twice(both: tuple[list[str], list[str]]) -> None:
    with pytest.raises(RouteError, match="both ask for"):
        parse_exposures(*both)


def test_what_differs_may_share() -> None:
    assert (
        len(
            parse_exposures(["0:1", "0:1", "80:1", "80:1/udp", "10.0.0.0/8:80:1"], ["a:1"], ["a:1"])
        )
        == 7
    )


def test_more_than_a_relay_takes_is_an_error() -> None:
    assert len(parse_exposures([f"1-{MAX_EXPOSURES}:1-{MAX_EXPOSURES}"])) == MAX_EXPOSURES
    with pytest.raises(SettingError, match=str(MAX_EXPOSURES)):
        parse_exposures([f"1-{MAX_EXPOSURES + 1}:1-{MAX_EXPOSURES + 1}"])


@given(st.text(alphabet="0123456789:-/,.*[]arwuphost=v1 é\n", max_size=30))
def test_anything_is_an_exposure_or_an_error_of_ours(text: str) -> None:
    for parse in (parse_exposure, lambda text: (parse_name(text, "http"),)):
        try:
            found = parse(text)
        except RouteError:
            continue
        again = (
            parse_name(str(found[0]), "http") if found[0].name else parse_exposure(str(found[0]))[0]
        )
        assert again == found[0]
