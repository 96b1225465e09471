"""The options before a key: quoting, values, and what is said about wrong ones."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from common.key_options import KeyOptions, parse_options, split_options


def options(text: str) -> KeyOptions:
    pairs, rest = split_options(f"{text} KEY")
    assert rest == "KEY"
    return parse_options(pairs)


@pytest.mark.parametrize(
    ("line", "pairs", "rest"),
    [
        ("restrict key", [("restrict", None)], "key"),
        ('a="b" key c', [("a", "b")], "key c"),
        ('A="b, c",D=e\t key', [("a", "b, c"), ("d", "e")], "key"),
        (r'a="say \"hi\"" key', [("a", 'say "hi"')], "key"),
        (r'a="c:\dir\x" key', [("a", r"c:\dir\x")], "key"),
        ('a="",b= key', [("a", ""), ("b", "")], "key"),
        ("a", [("a", None)], ""),
    ],
)
def test_splitting(line: str, pairs: list[tuple[str, str | None]], rest: str) -> None:
    assert split_options(line) == (pairs, rest)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('a="b key', "the quote of option 'a' is not closed; write a=\"value\""),
        (r'a="b\" key', "the quote of option 'a' is not closed"),
        ('a="b"c key', "a comma should stand at 'c key', after option 'a'"),
        ('a=b"c" key', "a comma should stand at '\"c\" key', after option 'a'"),
        ("a,,b key", "an option should stand at ',b key'; write name=\"value\""),
        ("a, b key", "an option should stand at 'b key'; write name=\"value\""),
        ("=b key", "an option should stand at '=b key'"),
    ],
)
def test_splitting_refused(line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        split_options(line)
    assert message in str(caught.value)


def test_all_options() -> None:
    found = options(
        'from="10.0.0.0/8",PermitOpen="db:5432",permitopen="[2001:db8::/32]:*",permitlisten=8080,'
        'permitlisten="localhost:8000-8099",permithost="App.example.org,*.example.net",'
        'permithost=x.,expiry-time="20300102Z",role="entry-point,reverse-proxy",group="a*, b"'
    )
    assert found.source is not None
    assert found.source.text == "10.0.0.0/8"
    assert list(map(str, found.opens)) == ["db:5432", "[2001:db8::/32]:*"]
    assert list(map(str, found.listens)) == ["*:8080", "localhost:8000-8099"]
    assert found.hosts == ("app.example.org", "*.example.net", "x")
    assert found.expires_at == datetime(2030, 1, 2, tzinfo=UTC).timestamp()
    assert found.roles == ("entry-point", "reverse-proxy")
    assert found.groups == ("a*", "b")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20300102Z", datetime(2030, 1, 2, tzinfo=UTC)),
        ("203001020304z", datetime(2030, 1, 2, 3, 4, tzinfo=UTC)),
        ("20300102030405Z", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("20240229Z", datetime(2024, 2, 29, tzinfo=UTC)),
    ],
)
def test_expiry_in_utc(text: str, expected: datetime) -> None:
    assert options(f"expiry-time={text}").expires_at == expected.timestamp()


def test_expiry_in_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Test-3")  # three hours ahead of UTC
    time.tzset()
    try:
        found = options('expiry-time="203001020304"').expires_at
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == datetime(2030, 1, 2, 0, 4, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("group", "admitted"),
    [("team-a", True), ("team-", True), ("x1", True), ("x12", False), ("Team-a", False)],
)
def test_groups(group: str, admitted: bool) -> None:
    assert options('group="team-*,x[0-9]"').admits_group(group) is admitted
    assert KeyOptions().admits_group(group)


KNOWN = "from=, permitopen=, permitlisten=, permithost=, expiry-time=, role=, group="


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour=red", f"unknown option 'colour'; known are {KNOWN}"),
        ("permit-open=a:1", "unknown option 'permit-open'"),
        (
            "restrict",
            f"option 'restrict' is OpenSSH's and means nothing here; remove it (known are {KNOWN})",
        ),
        ("no-pty", "option 'no-pty' is OpenSSH's"),
        ("no-X11-forwarding", "option 'no-x11-forwarding' is OpenSSH's"),
        ('command="/bin/sh"', "option 'command' is OpenSSH's"),
        ("cert-authority", "option 'cert-authority' is OpenSSH's"),
        ("from", "option 'from' has no value; write from=\"…\""),
        ('role=""', "option 'role' has no value; write role=\"…\""),
        ("role=entry-point,role=reverse-proxy", "option 'role' is given twice; join the two"),
        ("FROM=1.2.3.4,from=1.2.3.4", "option 'from' is given twice"),
        ("expiry-time=20300101,expiry-time=20300102", "option 'expiry-time' is given twice"),
        ('from="office.example"', "from=: 'office.example' is a host name, and addresses are not"),
        ('from="10.0.0.1/8"', "from=: '10.0.0.1/8' has host bits set; write 10.0.0.0/8"),
        ('permitopen="db"', "permitopen=: no port in 'db'; write db:443, or db:* for any port"),
        ('permitopen="*.example:80"', "permitopen=: not a host name or address: '*.example'"),
        (
            'permitopen="a:1, b:2"',
            'permitopen=: one at a time: \'a:1, b:2\'; write permitopen="a:1",permitopen="b:2"',
        ),
        ('permitlisten="x"', "permitlisten=: not a port: 'x'"),
        ('permitlisten="80,81"', "permitlisten=: one at a time"),
        ('permithost="10.0.0.1"', "permithost=: '10.0.0.1' is an address; write a host name"),
        ('permithost="[::1]"', "permithost=: '[::1]' is an address"),
        ('permithost="a.*"', "permithost=: not a host name or address: 'a.*'"),
        ('permithost="a,,b"', "an empty item in 'a,,b'; remove the comma"),
        (
            "expiry-time=tomorrow",
            "expiry-time=: not a time: 'tomorrow'; write YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS,"
            " with Z for UTC, such as 20301231Z",
        ),
        ("expiry-time=20230229", "expiry-time=: not a time: '20230229'"),
        ("expiry-time=2030010125", "not a time: '2030010125'"),
        ("expiry-time=203001012560", "not a time: '203001012560'"),
        ("expiry-time=00000101Z", "not a time: '00000101Z'"),
        ("role=relay", "role=: unknown role 'relay'; known are entry-point, reverse-proxy"),
        ('group="!a,*"', "group=: '!a' cannot be negated; list the groups it may join"),
        ('group="a,"', "an empty item in 'a,'; remove the comma"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        options(text)
    assert message in str(caught.value)


@given(st.text(alphabet='fromgupexiy-tlwc=",\\ \t10.:*!/Z', max_size=40) | st.text(max_size=20))
def test_any_text_parses_or_is_refused(line: str) -> None:
    with contextlib.suppress(UsageError):
        parse_options(split_options(line)[0])


@given(
    name=st.sampled_from(["from", "permitopen", "permithost", "expiry-time", "role", "group"]),
    value=st.text(max_size=20),
)
def test_any_value_parses_or_is_refused(name: str, value: str) -> None:
    with contextlib.suppress(UsageError):
        parse_options([(name, value)])


@given(st.text(alphabet=st.characters(exclude_characters="\\"), max_size=30))
def test_quoting_round_trip(value: str) -> None:
    quoted = value.replace('"', '\\"')
    assert split_options(f'a="{quoted}" rest') == ([("a", value)], "rest")
