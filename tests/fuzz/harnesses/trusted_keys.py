"""Trusted keys files: no line is skipped, and no login makes the judge stumble."""

from __future__ import annotations

from typing import Final

from common.errors import TrustedKeysError
from common.key_options import KeyOptions
from common.keys import Identity
from common.refusals import Refusal
from common.trusted_keys import TrustedKey, parse_trusted_keys
from tests.fuzz.outcome import outcome

KEYS: Final = [Identity.from_seed(bytes([number]) * 32).public for number in range(3)]
LINES: Final = [each.openssh().encode() for each in KEYS]
OPTIONS: Final = (
    b'role="entry-point",from="192.0.2.0/24,!192.0.2.13",permitopen="127.0.0.1:5001"',
    b'permitopen="192.168.1.0/24:22",permitopen="a.b:*",expiry-time="20301231Z"',
    b'role="reverse-proxy",group="office-*,[!a]?"',
    b'permitlisten="8080",permitlisten="127.0.0.1:1-9",permithost="app.example.org,*.a.b"',
    b'expiry-time=20000101,Group=x,from="*"',
    b'FROM="10.?.*.1"',
)
# A {0} to {2} in an input stands for the line of a key: no mutation would make one.
SEEDS: Final = (
    b"{0}\n# comment\n\n{1} bob\r\n{2}",
    *(each + b" {0} x\n{1}\n" for each in OPTIONS),
    b'{0} the first # of two\ngroup="#" {1}\n{2}',
    b"{0}\nrole=entry-point {0}\n",
    b"{0}\n  {0} again\n",
    b"restrict {0}",
    b'group="a\\"b" {0}',
    b"\xef\xbb\xbf{0}",
    b"\xff\xfe{0}",
    KEYS[0].raw,
    b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAQQ",
)
WORDS: Final = (
    *(b"{0}", b"{1}", b"{2}", b"\n", b'"', b'="', b'",', b"\\", b"#", b"*", b"?", b"[!", b"]"),
    *(b"from=", b"permitopen=", b"permitlisten=", b"permithost=", b"expiry-time=", b"role="),
    *(b"group=", b"entry-point", b"reverse-proxy", b"20301231Z", b"00010101", b"99991231235959"),
    *(b"127.0.0.1:80", b"*.a.b", b"10.0.0.0/8", b"[::1]:1-2", b"!", b",", b"ssh-ed25519 "),
    *("\u2028".encode(), "\u00a0".encode(), b"\x0b", b"\x1c", b"\0"),
)
NOW: Final = 1.9e9
NAMES: Final = ("app.example.org", "x.a.b", "*.a.b", "a.b")


def filled(data: bytes) -> bytes:
    for number, line in enumerate(LINES):
        data = data.replace(b"{%d}" % number, line)
    return data


def check_key(entry: TrustedKey) -> None:
    options = entry.options
    for role in ("entry-point", "reverse-proxy"):
        for address in (None, "192.0.2.7", "::ffff:10.1.2.1"):
            answer = entry.check_login(role, "office-1", address, NOW)
            barred = bool(
                (options.expires_at is not None and options.expires_at <= NOW)
                or (options.roles and role not in options.roles)
                or (options.source is not None and address is None)
            )
            assert isinstance(answer, Refusal) or not barred
            if options == KeyOptions():
                assert answer is None
    for host, ip in (("a.b", "127.0.0.1"), ("192.168.1.9", "192.168.1.9"), ("x", "::1")):
        assert options.opens or entry.check_open(host, ip, 80) is None
        assert options.listens or entry.check_listen(host, 80) is None
        entry.check_open(host, ip, 80)
        entry.check_listen(host, 0)
    for name in NAMES:
        answer = entry.check_host(name)
        assert options.hosts or answer is None
        assert answer is None or name not in options.hosts


def check(data: bytes) -> None:
    content = filled(data)
    found = outcome(TrustedKeysError, lambda: parse_trusted_keys(content, "keys"))
    if isinstance(found, TrustedKeysError):
        assert str(found).startswith(f"keys:{found.line}: ")
        assert 1 <= found.line <= content.count(b"\n") + 1
        return
    entries = list(found)
    assert entries
    assert [found.get(each.key.raw) for each in entries] == entries
    if len(content) != 32:
        lines = [line.strip() for line in content.decode("utf-8-sig").split("\n")]
        said = [number for number, line in enumerate(lines, 1) if line and line[0] != "#"]
        assert {each.line for each in entries} <= set(said)
        for number in said:  # each line means a key that is there
            assert any(each.key.openssh().split()[1] in lines[number - 1] for each in entries)
    plain = "\n".join(each.key.openssh() for each in entries).encode()
    again = list(parse_trusted_keys(plain, "again"))
    assert [each.key for each in again] == [each.key for each in entries]
    for each in entries:
        check_key(each)
