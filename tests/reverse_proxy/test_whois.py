"""``reverse-proxy whois``: whose a loopback address is."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from common.errors import SettingError
from reverse_proxy.whois import whois

FILE = (
    '{"version":1,"visitors":[["127.1.2.3","192.0.2.7",0,90],'
    '["127.1.2.4","2001:db8::/64",1e300,-1e300],["127.1.2.5","\\u001b[31mred",1,2]]}'
)


def told(path: Path, *addresses: str) -> str:
    out = io.StringIO()
    whois(str(path), addresses, Console(file=out, width=200))
    return out.getvalue()


def test_one_or_all_are_told(tmp_path: Path) -> None:
    path = tmp_path / "visitors.json"
    path.write_text(FILE)
    one = told(path, "127.1.2.3")
    assert "192.0.2.7" in one
    assert "1970-01-01 00:01:30" in one
    assert "127.1.2.4" not in one
    everybody = told(path)
    assert "2001:db8::/64" in everybody
    assert "?" in everybody  # a time that is none
    assert "\x1b" not in everybody


def test_an_address_of_nobody_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "visitors.json"
    path.write_text(FILE)
    with pytest.raises(SettingError, match=r"127\.9\.9\.9\\n stands for nobody"):
        told(path, "127.1.2.3", "127.9.9.9\n")
    with pytest.raises(SettingError, match="cannot read"):
        told(tmp_path / "nothing")
