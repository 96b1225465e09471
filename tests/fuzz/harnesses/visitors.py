"""The file of visitors, and the table that is made of it."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_network
from typing import Final

from common.errors import SettingError
from reverse_proxy.visitor_addresses import VisitorAddresses, client_of
from reverse_proxy.visitors_file import read
from tests.fuzz.outcome import outcome
from tests.fuzz.scratch import Scratch

SEEDS: Final = (
    b'{"version":1,"visitors":[["127.1.2.3","192.0.2.7",1.5,2.5]]}',
    b'{"version":1,"visitors":[["127.1.2.3","2001:db8::/64",1,2],["127.1.2.4","10.0.0.1",0,1e9]]}',
    b'{"version":2,"visitors":[]}',
    b'{"version":1,"visitors":[["127.0.2.3","192.0.2.7",1,2],["127.1.2.3","::1",1,2]],"x":[{}]}',
    b'{"version":1,"visitors":[["127.1.2.3","192.0.2.7",1,2],["127.1.2.3","192.0.2.8",1,2]]}',
)
WORDS: Final = (
    *(b'"version":1', b'"visitors":', b'["127.1.2.3","192.0.2.7",1,2]', b"[" * 40, b"{" * 40),
    *(b'"127.200.1.1"', b'"::/64"', b'"2001:db8::/64"', b'"x":', b"1e999", b'"\\ud800"', b'"\xff"'),
    *(b"/", b"%", b"::ffff:10.0.0.1", b"9" * 400),
)
FILE: Final = Scratch()
MOST: Final = 4


def check(data: bytes) -> None:
    FILE.write(data)
    found = outcome(SettingError, lambda: read(FILE.path))
    if isinstance(found, SettingError):
        assert str(FILE.path) in str(found)
        return
    table = VisitorAddresses(MOST)
    for address, seen in found:
        before = len(table)
        assert table.restore(address, seen) == (len(table) > before)
    kept = table.items()
    assert len(kept) <= MOST
    assert len({seen.client for _, seen in kept}) == len(kept)
    for address, seen in kept:
        assert IPv4Address(address) in ip_network("127.0.0.0/8")
        assert not address.startswith("127.0.")
        host = seen.client.partition("/")[0]
        assert client_of(host) == seen.client
        assert table.stand_in(host, 7.0) == address
    assert table.stand_in("192.0.2.99", 8.0) == table.stand_in("::ffff:192.0.2.99", 9.0)
    assert len(table) <= MOST
