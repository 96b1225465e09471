from __future__ import annotations

from pathlib import Path

import pytest

from common import client as module
from common.addresses import HostPort
from common.client import Partners, new_backoff, relays_of, summary
from common.errors import AddressError, SettingError, UsageError
from entry_point.settings import EntryPointSettings
from tests.common.sessions import ANN, BOB, EVE


def test_without_a_file_the_own_key_is_the_partner() -> None:
    partners = Partners("", ANN, "entry-point", "0")
    assert partners.raw_keys() == [ANN.public.raw]
    assert partners.get(ANN.public.raw) is not None
    assert partners.get(BOB.public.raw) is None


def trust(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o644)
    return str(path)


def test_a_key_is_a_partner_if_it_may_have_the_other_role_in_this_group(tmp_path: Path) -> None:
    path = trust(
        tmp_path / "keys",
        f'role="reverse-proxy" {ANN.public.openssh()}',
        f'role="entry-point" {BOB.public.openssh()}',
        f'group="other" {EVE.public.openssh()}',
    )
    own = ANN
    assert Partners(path, own, "entry-point", "0").raw_keys() == [ANN.public.raw]
    assert Partners(path, own, "reverse-proxy", "0").raw_keys() == [BOB.public.raw]
    both = Partners(path, own, "entry-point", "other").raw_keys()
    assert both == [ANN.public.raw, EVE.public.raw]


def test_a_key_that_has_expired_is_no_partner(tmp_path: Path) -> None:
    path = trust(tmp_path / "keys", f'expiry-time="20010101" {BOB.public.openssh()}')
    assert Partners(path, ANN, "entry-point", "0").raw_keys() == []


def test_a_reload_that_fails_leaves_the_keys_as_they_were(tmp_path: Path) -> None:
    path = trust(tmp_path / "keys", BOB.public.openssh())
    partners = Partners(path, ANN, "entry-point", "0")
    trust(tmp_path / "keys", "nonsense")
    with pytest.raises(UsageError):
        partners.reload()
    assert partners.raw_keys() == [BOB.public.raw]
    trust(tmp_path / "keys", EVE.public.openssh())
    partners.reload()
    assert partners.raw_keys() == [EVE.public.raw]


def test_more_keys_than_the_wire_carries_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PARTNERS", 1)
    path = trust(tmp_path / "keys", BOB.public.openssh(), EVE.public.openssh())
    with pytest.raises(SettingError, match=r"keys holds 2 keys; 1 is the most"):
        Partners(path, ANN, "entry-point", "0")


def test_relays_are_named_once_with_a_port() -> None:
    assert relays_of(["a.example", "[::1]:1", "a.example:4433"]) == [
        HostPort("a.example", 4433),
        HostPort("::1", 1),
    ]
    with pytest.raises(SettingError, match="no relay is named; write --server-address HOST:PORT"):
        relays_of([])
    with pytest.raises(AddressError):
        relays_of(["a:b:c"])


def test_the_summary_names_what_is_bound() -> None:
    assert summary([HostPort("::", 1), HostPort("a", 2)], None) == "[::]:1, a:2"


def test_delays_between_dials_grow_to_what_a_source_waits() -> None:
    backoff = new_backoff()
    delays = [backoff.next_delay() for _ in range(1000)]
    assert 8 < max(delays) <= EntryPointSettings(routes=("1:1",)).wait
