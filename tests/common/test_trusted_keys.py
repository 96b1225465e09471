"""The trusted keys file, and the judgement over a key."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import AddressError, TrustedKeysError
from common.keys import Identity, PublicKey
from common.trusted_keys import TrustedKey, TrustedKeys, parse_trusted_keys

KEYS = [Identity.from_seed(bytes([n]) * 32, f"key-{n}").public for n in range(4)]
LINES = [key.openssh() for key in KEYS]
RSA = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7 somebody"


def parse(text: str) -> TrustedKeys:
    return parse_trusted_keys(text.encode(), "keys.txt")


def one(options: str) -> TrustedKey:
    (key,) = parse(f"{options} {LINES[0]}")
    return key


def test_a_file() -> None:
    text = (
        f'# ours\n\n{LINES[0]}\n  \t\n\trole="entry-point" {LINES[1]}  \n# {LINES[2]}\n{LINES[3]}'
    )
    keys = parse(text)
    assert [(key.key, key.line) for key in keys] == [(KEYS[0], 3), (KEYS[1], 5), (KEYS[3], 7)]
    assert [key.key.comment for key in keys] == ["key-0", "key-1", "key-3"]
    assert len(keys) == 3
    found = keys.get(KEYS[1].raw)
    assert found is not None
    assert (found.options.roles, found.where) == (("entry-point",), "keys.txt:5")
    assert keys.get(KEYS[2].raw) is None


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_windows_files(codec: str, end: str) -> None:
    data = end.join([*LINES[:2], ""]).encode(codec)
    assert [key.line for key in parse_trusted_keys(data, "f")] == [1, 2]


def test_only_line_feeds_end_lines() -> None:
    assert len(parse(f"# one\u2028{LINES[1]}\x0b{LINES[2]}\n{LINES[0]}")) == 1


def test_the_original_tools_raw_key() -> None:
    (key,) = parse_trusted_keys(KEYS[0].raw, "auth.pub")
    assert (key.key, key.where) == (KEYS[0], "auth.pub:1")
    assert key.check_login("entry-point", "0", "192.0.2.7", 0) is None
    assert key.check_open("db", "10.0.0.1", 5432) is None


def test_the_same_line_twice_is_one_key() -> None:
    keys = parse(f"role=entry-point {LINES[0]}\nrole=entry-point {LINES[0]} again\n")
    assert [key.line for key in keys] == [1]


MAKE_ONE = "make one with: gen-cert ed25519"
NO_KEY = f"keys.txt:1: no key, so nobody could come in; add the line of a public key, or {MAKE_ONE}"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", NO_KEY),
        (b"# nothing\n\n", NO_KEY),
        (b"#" * 32, NO_KEY),
        (
            f"{LINES[0]}\n{RSA}".encode(),
            "keys.txt:2: not an ed25519 key: 'ssh-rsa AAAAB3NzaC1yc2EAAAADAQAB…'; ",
        ),
        (f"role=entry-point {RSA}".encode(), "keys.txt:1: not an ed25519 key: 'ssh-rsa AAAA"),
        (b"sk-ssh-ed25519@openssh.com AAAA x", "keys.txt:1: not an ed25519 key: 'sk-ssh-"),
        (b"ssh-ed25519 AAAA x", "keys.txt:1: a damaged ed25519 key: 'ssh-ed25519 AAAA x'; "),
        (b"ssh-ed25519", "keys.txt:1: a damaged ed25519 key"),
        (
            b"\nhello world\n",
            "keys.txt:2: not a key: 'hello world'; write [options] ssh-ed25519 AAAA… [comment],"
            " without spaces between options",
        ),
        (b"role=entry-point", "keys.txt:1: not a key: 'role=entry-point'"),
        (f'group="a" role="b" {LINES[0]}'.encode(), 'keys.txt:1: not a key: \'group="a" role'),
        (f"restrict {LINES[0]}".encode(), "keys.txt:1: option 'restrict' is OpenSSH's"),
        (f"from=host {LINES[0]}".encode(), "keys.txt:1: from=: 'host' is a host name"),
        (b"<html>", "keys.txt:1: an option should stand at '<html>'"),
        (
            f"{LINES[0]}\ngroup=a {LINES[0]}".encode(),
            f"keys.txt:2: key {KEYS[0].fingerprint} stands in line 1 with other options; keep one"
            " of the two lines",
        ),
        (
            LINES[0].encode("utf-16"),
            "keys.txt:1: the file is UTF-16; save it as UTF-8",
        ),
        (
            b"# x\n\xff",
            "keys.txt:2: not text: byte 0xff; the file has to be UTF-8, one key a line",
        ),
        (
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n",
            "keys.txt:1: this is a private key; name the public key's file (.pub)",
        ),
        (b"\x80" * 64, "keys.txt:1: this is a private key"),
        (bytes(32), "keys.txt:1: not a sound ed25519 key"),
    ],
)
def test_refused(data: bytes, message: str) -> None:
    with pytest.raises(TrustedKeysError) as caught:
        parse_trusted_keys(data, "keys.txt")
    assert str(caught.value).startswith(message)
    assert str(caught.value) == f"{caught.value.path}:{caught.value.line}: {caught.value.reason}"


WHERE = f"key {KEYS[0].fingerprint} (keys.txt:1)"


@pytest.mark.parametrize(
    ("options", "code", "detail"),
    [
        ('role="entry-point,reverse-proxy"', None, ""),
        ('group="team-*"', None, ""),
        ('from="192.0.2.0/24,!192.0.2.9"', None, ""),
        ("expiry-time=20300101Z", None, ""),
        (
            "expiry-time=20200101Z,role=reverse-proxy",
            "expired-key",
            "expired at 2020-01-01 00:00:00 UTC; set a later expiry-time=, or make a new key",
        ),
        (
            "role=reverse-proxy,group=b",
            "wrong-role",
            "may be reverse-proxy, not entry-point; use another key, or change role=",
        ),
        (
            'group="a,b*",from=10.0.0.1',
            "wrong-group",
            "may not join group 'team-a', only a, b*; use another group, or change group=",
        ),
        (
            'from="10.0.0.0/8,*,!192.0.2.*"',
            "from-mismatch",
            "may not come from 192.0.2.7, only from 10.0.0.0/8, *, !192.0.2.*; connect from there,"
            " or change from=",
        ),
    ],
)
def test_login(options: str, code: str | None, detail: str) -> None:
    refusal = one(options).check_login("entry-point", "team-a", "::ffff:192.0.2.7", 1.7e9)
    if code is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert (refusal.code, refusal.detail) == (code, f"{WHERE} {detail}")


def test_a_key_expires_on_the_second() -> None:
    key = one("expiry-time=20300101Z")
    at = key.options.expires_at
    assert at is not None
    assert key.check_login("entry-point", "0", None, at - 0.001) is None
    assert key.check_login("entry-point", "0", None, at) is not None


def test_from_is_not_ignored_where_nobody_sees_the_address() -> None:
    assert one("role=entry-point").check_login("entry-point", "0", None, 0) is None
    refusal = one('from="*"').check_login("entry-point", "0", None, 0)
    assert refusal is not None
    assert (refusal.code, refusal.detail) == (
        "from-mismatch",
        f"{WHERE} has from=, which cannot be checked here: only the relay sees the address; put"
        " from= into the relay's trusted keys",
    )


def test_an_address_that_is_none() -> None:
    with pytest.raises(AddressError):
        one('from="*"').check_login("entry-point", "0", "localhost", 0)
    with pytest.raises(AddressError):
        one("group=a").check_open("db", "db", 1)


OPENS = 'permitopen="db.internal:5432",permitopen="10.0.0.0/8:80-90",permitopen="[::1]:*"'


@pytest.mark.parametrize(
    ("host", "ip", "port", "permitted"),
    [
        ("DB.internal.", "192.0.2.7", 5432, True),
        ("db.internal", "192.0.2.7", 5433, False),
        ("192.0.2.7", "192.0.2.7", 5432, False),
        ("web", "10.1.2.3", 85, True),
        ("web", "::ffff:10.1.2.3", 85, True),
        ("web", "10.1.2.3", 91, False),
        ("localhost", "::1", 1, True),
    ],
)
def test_open(host: str, ip: str, port: int, permitted: bool) -> None:
    assert (one(OPENS).check_open(host, ip, port) is None) is permitted
    assert one("group=a").check_open(host, ip, port) is None


def test_open_refused() -> None:
    refusal = one(OPENS).check_open("web\n", "192.0.2.7", 80)
    assert refusal is not None
    assert (refusal.code, refusal.detail) == (
        "not-permitted",
        f"{WHERE} may not open web\\n (192.0.2.7) port 80, only db.internal:5432, 10.0.0.0/8:80-90,"
        " [::1]:*; ask for one of these, or add permitopen=",
    )


LISTENS = 'permitlisten=8000,permitlisten="10.0.0.0/8:8001",permitlisten="0.0.0.0:8002-8003"'
LISTENS += ',permitlisten="[::]:8004",permitlisten="localhost:8005"'


@pytest.mark.parametrize(
    ("host", "port", "permitted"),
    [
        ("", 8000, True),
        ("*", 8000, True),
        ("192.0.2.7", 8000, True),
        ("Localhost", 8000, True),
        ("10.1.2.3", 8001, True),
        ("::ffff:10.1.2.3", 8001, True),
        ("", 8001, False),
        ("192.0.2.7", 8001, False),
        ("localhost", 8001, False),
        ("", 8002, True),
        ("*", 8003, True),
        ("0.0.0.0", 8003, True),
        ("127.0.0.1", 8003, False),
        ("", 8004, True),
        ("::", 8004, True),
        ("::1", 8004, False),
        ("Localhost.", 8005, True),
        ("127.0.0.1", 8005, False),
        ("", 8005, False),
        ("", 80, False),
        ("", 0, False),
    ],
)
def test_listen(host: str, port: int, permitted: bool) -> None:
    assert (one(LISTENS).check_listen(host, port) is None) is permitted
    assert one("permitopen=a:1,permithost=a").check_listen(host, port) is None
    assert one('permitlisten="*:*"').check_listen(host, port) is None


@pytest.mark.parametrize(("port", "asked"), [(80, "port 80"), (0, "any free port")])
def test_listen_refused(port: int, asked: str) -> None:
    refusal = one('permitlisten="8000-8099",permitlisten="1-65535"').check_listen("10.0.0.1", port)
    if port:
        assert refusal is None
    else:
        assert refusal is not None
        assert refusal.detail.endswith(", or add permitlisten=")
    refusal = one('permitlisten="8000-8099",permitlisten="10.0.0.1:*"').check_listen("", port)
    assert refusal is not None
    assert (refusal.code, refusal.detail) == (
        "not-permitted",
        f"{WHERE} may not have {asked} made public, only *:8000-8099, 10.0.0.1:*; ask for one of"
        " these, or add permitlisten=",
    )


HOSTS = 'permithost="App.example.org.,*.Example.net",permithost=example.com'


@pytest.mark.parametrize(
    ("name", "permitted"),
    [
        ("app.example.org", True),
        ("x.app.example.org", False),
        ("*.app.example.org", False),
        ("xapp.example.org", False),
        ("a.example.net", True),
        ("b.a.example.net", True),
        ("*.example.net", True),
        ("*.a.example.net", True),
        ("example.net", False),
        ("aexample.net", False),
        ("*.net", False),
        ("example.com", True),
        ("*.example.com", False),
        ("", False),
    ],
)
def test_host(name: str, permitted: bool) -> None:
    assert (one(HOSTS).check_host(name) is None) is permitted
    assert one("permitopen=a:1,permitlisten=1").check_host(name) is None


def test_host_refused() -> None:
    refusal = one(HOSTS).check_host("*.com\n")
    assert refusal is not None
    assert (refusal.code, refusal.detail) == (
        "not-permitted",
        f"{WHERE} may not have *.com\\n made public, only app.example.org, *.example.net,"
        " example.com; ask for one of these, or add permithost=",
    )


odd = st.binary(max_size=80) | st.lists(
    st.sampled_from([*LINES, RSA, "# x", "role=entry-point ", 'from="', "\n", "\r\n", " ", "\x00"])
).map(lambda parts: "".join(parts).encode())


@given(odd)
def test_any_file_parses_or_is_refused(data: bytes) -> None:
    with contextlib.suppress(TrustedKeysError):
        assert len(parse_trusted_keys(data, "f")) > 0


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=5, unique=True))
def test_round_trip(seeds: list[bytes]) -> None:
    keys = [Identity.from_seed(seed, "c").public for seed in seeds]
    text = "".join(f"{key.openssh()}\n" for key in keys)
    assert [each.key for each in parse(text)] == keys
    assert all(isinstance(each.key, PublicKey) for each in parse(text))
