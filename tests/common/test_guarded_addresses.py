"""Which addresses are not dialled unless named."""

from __future__ import annotations

import pytest

from common.addresses import parse_ip, parse_network
from common.guarded_addresses import carried_addresses, guarded_kind, is_guarded_network


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("169.254.169.254", "the cloud's metadata service"),
        ("169.254.0.1", "link-local"),
        ("::ffff:169.254.0.1", "link-local"),
        ("fe80::1", "link-local"),
        ("febf::1%eth0", "link-local"),
        ("fd00:ec2::254", "the cloud's metadata service"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("127.0.0.1", None),
        ("::1", None),
        ("10.0.0.1", None),
        ("192.0.2.7", None),
        ("169.253.255.255", None),
        ("fec0::1", None),
        ("fd00:ec2::253", None),
        ("2001:db8::7", None),
    ],
)
def test_kinds(address: str, kind: str | None) -> None:
    assert guarded_kind(parse_ip(address)) == kind


@pytest.mark.parametrize(
    ("network", "guarded"),
    [
        ("169.254.169.254", True),
        ("169.254.0.0/16", True),
        ("169.254.128.0/17", True),
        ("169.0.0.0/8", False),
        ("0.0.0.0/0", False),
        ("::/0", False),
        ("fe80::/10", True),
        ("fe80::/9", False),
        ("10.0.0.0/8", False),
    ],
)
def test_networks(network: str, guarded: bool) -> None:
    assert is_guarded_network(parse_network(network)) is guarded


@pytest.mark.parametrize(
    ("address", "inner"),
    [
        ("64:ff9b::a9fe:a9fe", "169.254.169.254"),
        ("2002:a9fe:a9fe::1", "169.254.169.254"),
        ("::a9fe:a9fe", "169.254.169.254"),
        ("::1", None),
        ("::", None),
        ("2001:db8::7", None),
        ("192.0.2.7", None),
    ],
)
def test_addresses_inside_addresses(address: str, inner: str | None) -> None:
    outer = parse_ip(address)
    assert carried_addresses(outer) == ((outer,) if inner is None else (outer, parse_ip(inner)))
