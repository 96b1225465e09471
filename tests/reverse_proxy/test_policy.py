"""--allow: what may be dialled, and that names do not lead to guarded addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SettingError
from reverse_proxy.policy import Policy

METADATA = "169.254.169.254"


def code(allow: list[str], host: str, ip: str, port: int) -> str | None:
    refusal = Policy.from_list(allow).check(host, ip, port)
    return None if refusal is None else refusal.code


@pytest.mark.parametrize(
    ("ip", "expected"),
    [
        ("127.0.0.1", None),
        ("::1", None),
        ("10.0.0.1", None),
        ("192.0.2.7", None),
        ("2001:db8::7", None),
        (METADATA, "guarded-address"),
        (f"::ffff:{METADATA}", "guarded-address"),
        ("fe80::1", "guarded-address"),
        ("fe80::1%eth0", "guarded-address"),
        ("fd00:ec2::254", "guarded-address"),
        ("64:ff9b::a9fe:a9fe", "guarded-address"),
        ("2002:a9fe:a9fe::", "guarded-address"),
        ("::ffff:0.0.0.0", "guarded-address"),
        ("0.0.0.0", "guarded-address"),
        ("::", "guarded-address"),
        ("224.0.0.1", "guarded-address"),
        ("ff02::1", "guarded-address"),
        ("255.255.255.255", "guarded-address"),
    ],
)
def test_without_a_list(ip: str, expected: str | None) -> None:
    assert code([], ip, ip, 80) == expected
    assert code([], "name.example", ip, 80) == expected


@pytest.mark.parametrize(
    ("allow", "host", "ip", "port", "expected"),
    [
        (["db.internal:5432"], "DB.Internal", "10.0.0.1", 5432, None),
        (["db.internal:5432"], "db.internal.", "10.0.0.1", 5432, None),
        (["db.internal:5432"], "db.internal", "10.0.0.1", 5433, "not-permitted"),
        (["db.internal:5432"], "10.0.0.1", "10.0.0.1", 5432, "not-permitted"),
        (["db.internal"], "db.internal", METADATA, 80, "guarded-address"),
        (["10.0.0.0/8"], "db", "10.0.0.1", 1, None),
        (["10.0.0.0/8"], "db", "::ffff:10.0.0.1", 1, None),
        (["10.0.0.0/8"], "db", "11.0.0.1", 1, "not-permitted"),
        (["10.0.0.1:80-90", "db:*"], "db", "11.0.0.1", 1, None),
        (["[2001:db8::1]:443"], "x", "2001:db8::1", 443, None),
        (["[2001:db8::1]:443"], "x", "2001:db8::1", 80, "not-permitted"),
        (["*"], "x", "10.0.0.1", 80, None),
        (["*"], "x", METADATA, 80, "guarded-address"),
        (["0.0.0.0/0"], METADATA, METADATA, 80, "guarded-address"),
        (["169.0.0.0/8"], METADATA, METADATA, 80, "guarded-address"),
        ([METADATA], METADATA, METADATA, 80, None),
        ([METADATA], "metadata.internal", METADATA, 80, None),
        ([METADATA], "x", f"::ffff:{METADATA}", 80, None),
        ([f"{METADATA}:81"], METADATA, METADATA, 80, "guarded-address"),
        (["169.254.0.0/16"], "x", "169.254.3.3", 80, None),
        (["169.254.0.0/16"], "x", "fe80::1", 80, "guarded-address"),
        (["169.254.0.0/16"], "x", "10.0.0.1", 80, "not-permitted"),
        (["*", METADATA], "x", "64:ff9b::a9fe:a9fe", 80, None),
        (["[fe80::1]:80"], "fe80::1%eth0", "fe80::1%eth0", 80, None),
        (["[::ffff:169.254.1.1]"], "x", "169.254.1.1", 80, None),
    ],
)
def test_with_a_list(allow: list[str], host: str, ip: str, port: int, expected: str | None) -> None:
    assert code(allow, host, ip, port) == expected


@pytest.mark.parametrize(
    ("allow", "host", "ip", "detail"),
    [
        (
            [],
            "metadata.example",
            METADATA,
            "metadata.example (169.254.169.254) port 80 is refused: 169.254.169.254 is the cloud's"
            " metadata service; if it is meant, add --allow '*,169.254.169.254:80' at the"
            " reverse-proxy",
        ),
        (
            ["10.0.0.0/8"],
            "fe80::1",
            "fe80::1",
            "fe80::1 port 80 is refused: fe80::1 is link-local; if it is meant, add --allow"
            " [fe80::1]:80 at the reverse-proxy",
        ),
        (
            [],
            "64:ff9b::a9fe:1",
            "64:ff9b::a9fe:1",
            "64:ff9b::a9fe:1 port 80 is refused: 169.254.0.1, which 64:ff9b::a9fe:1 leads to, is"
            " link-local; if it is meant, add --allow '*,169.254.0.1:80' at the reverse-proxy",
        ),
        (
            ["10.0.0.0/8", "db:5432"],
            "db",
            "192.0.2.7",
            "db (192.0.2.7) port 80 is not in the list of --allow (10.0.0.0/8:*, db:5432); add"
            " 192.0.2.7:80 to it at the reverse-proxy",
        ),
        (
            ["10.0.0.0/8"],
            "\x1b[2J",
            "192.0.2.7",
            "\\x1b[2J (192.0.2.7) port 80 is not in the list of --allow (10.0.0.0/8:*); add"
            " 192.0.2.7:80 to it at the reverse-proxy",
        ),
    ],
)
def test_details(allow: list[str], host: str, ip: str, detail: str) -> None:
    refusal = Policy.from_list(allow).check(host, ip, 80)
    assert refusal is not None
    assert refusal.detail == detail


def test_a_bad_entry() -> None:
    with pytest.raises(SettingError) as caught:
        Policy.from_list(["10.0.0.1/8"])
    assert str(caught.value) == (
        "--allow: '10.0.0.1/8' has host bits set; write 10.0.0.0/8 for the network or 10.0.0.1 for"
        " the one address"
    )


def test_an_empty_list_of_entries_allows_nothing() -> None:
    refusal = Policy([]).check("x", "10.0.0.1", 80)
    assert refusal is not None
    assert "(nothing)" in refusal.detail


broad = st.sampled_from(
    ["*", "0.0.0.0/0", "[::/0]", "128.0.0.0/1", "name", "10.0.0.0/8", "[fe00::/7]"]
)
link_local = st.ip_addresses(network="169.254.0.0/16") | st.ip_addresses(network="fe80::/10")


@given(allow=st.lists(broad), ip=link_local, port=st.integers(1, 65535))
def test_no_broad_list_opens_link_local(allow: list[str], ip: object, port: int) -> None:
    assert code(allow, "name", str(ip), port) == "guarded-address"
    assert code([*allow, f"[{ip}]" if ":" in str(ip) else str(ip)], "name", str(ip), port) is None
