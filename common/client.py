"""What entry-point and reverse-proxy prepare alike before they dial."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterable

import anyio

from common.addresses import HostPort, parse_host_port
from common.backoff import Backoff
from common.errors import SettingError
from common.key_files import load_identity
from common.key_options import KeyOptions
from common.keys import Identity
from common.link import Client
from common.logs import event
from common.metrics import MetricsServer
from common.refusals import Refusal
from common.service import Service
from common.settings import ClientSettings
from common.tls import link_context
from common.trusted_keys import TrustedKey, TrustedKeys
from common.trusted_keys_file import load_trusted_keys
from common.wire import MAX_GROUP, MAX_PARTNERS, Role

log = logging.getLogger(__name__)

DEFAULT_PORT = 4433
"""The relay's port when ``--server-address`` names none."""
LONGEST_DELAY_S = 10.0
"""Seconds between two dials at most: as long as a source waits (``--wait``), so that the first one
after an outage of the reverse-proxy's network is likely to be served."""
STATUS_S = 5.0
"""Seconds between two looks at what to tell the service manager; a repetition is not sent."""

_PARTNER_OF: dict[Role, Role] = {"entry-point": "reverse-proxy", "reverse-proxy": "entry-point"}


class Partners:
    """Whom this client accepts as a partner: the keys in ``--trusted-keys``, or its own.

    ``from=`` is the relay's to enforce, for only the relay sees addresses; the file says so by
    refusing such keys here. Whoever can be no partner is told of when the file is read, for later
    it is only not offered to the relay, in silence.
    """

    def __init__(self, path: str, own: Identity, role: Role, group: str) -> None:
        self._path, self._own = path, own
        self._role, self._group = _PARTNER_OF[role], group
        self._keys = self._load()
        self._warn()

    def reload(self) -> None:
        """Read the file again; on an error the keys stay as they are.

        Raises:
            UsageError: the file cannot be read or does not parse.
        """
        self._keys = self._load()
        self._warn()

    def get(self, key: bytes) -> TrustedKey | None:
        """Return the trusted key, if it may be a partner now."""
        trusted = self._keys.get(key)
        return None if trusted is None or self._refusal(trusted) else trusted

    def raw_keys(self) -> list[bytes]:
        """Return the 32 bytes of every key that may be a partner now."""
        return [each.key.raw for each in self._keys if self.get(each.key.raw)]

    def _refusal(self, trusted: TrustedKey) -> Refusal | None:
        return trusted.check_login(self._role, self._group, None, time.time())

    def _warn(self) -> None:
        for each in self._keys:
            refusal = self._refusal(each)
            if refusal is not None:
                event(
                    log,
                    logging.WARNING,
                    "a trusted key can be no partner",
                    budget_key="a trusted key can be no partner",
                    code=refusal.code,
                    reason=refusal.detail,
                )

    def _load(self) -> TrustedKeys:
        if not self._path:
            return TrustedKeys([TrustedKey(self._own.public, KeyOptions(), "own key", 1)])
        keys = load_trusted_keys(self._path)
        if len(keys) > MAX_PARTNERS:
            raise SettingError(
                f"--trusted-keys: {self._path} holds {len(keys)} keys; {MAX_PARTNERS} is the most"
            )
        return keys


def relays_of(addresses: Iterable[str]) -> list[HostPort]:
    """Return the relays that ``--server-address`` names, each once, in order.

    Raises:
        SettingError: an address is malformed (as ``AddressError``), or there is none.
    """
    relays = list(
        dict.fromkeys(parse_host_port(each, default_port=DEFAULT_PORT) for each in addresses)
    )
    if not relays:
        raise SettingError("--server-address: no relay is named; write --server-address HOST:PORT")
    return relays


def prepare(settings: ClientSettings, role: Role) -> tuple[Client, Identity, Partners]:
    """Load keys and certificates and return who we are.

    Raises:
        UsageError: a file or value does not fit; the message names it and the next step.
    """
    group = settings.group_id
    if not 0 < len(group) <= MAX_GROUP or not group.isprintable():
        raise SettingError(f"--group-id: {group!r} is not 1 to {MAX_GROUP} printable characters")
    identity = load_identity(settings.auth_private_key)
    partners = Partners(settings.trusted_keys, identity, role, group)
    client = Client(
        role=role,
        group=group,
        key=identity.public,
        instance=os.urandom(16),
        context=link_context(identity, settings.server_cert),
        partners=partners.raw_keys,
        accepts=lambda key: partners.get(key) is not None,
    )
    return client, identity, partners


def summary(addresses: Iterable[HostPort | str], exporter: MetricsServer | None) -> str:
    """Return what the ready line says: what is bound, and where the metrics are."""
    bound = ", ".join(map(str, addresses))
    return f"{bound}, metrics {exporter.address}" if exporter else bound


async def keep_status(service: Service, status: Callable[[], str]) -> None:
    """Tell the service manager how things are, every few seconds, for ever."""
    while True:
        service.status(status())
        await anyio.sleep(STATUS_S)


def new_backoff() -> Backoff:
    """Return the delays between dials, with full jitter."""
    return Backoff(rng=random.random, cap_s=LONGEST_DELAY_S)
