"""Which clients are there: told once when a process comes and once when it has gone."""

from __future__ import annotations

import logging
from collections import Counter

from common.addresses import HostPort
from common.keys import PublicKey
from common.logs import event
from relay_server.matchmaker import Party

log = logging.getLogger(__name__)


class Clients:
    """Counts what each client process holds, links and halves of pairs; logs its first and last."""

    def __init__(self) -> None:
        self._held: Counter[Party] = Counter()

    def __len__(self) -> int:
        return len(self._held)

    def came(self, party: Party, address: HostPort) -> None:
        """Count one more link of ``party``, from ``address``."""
        self._held[party] += 1
        if self._held[party] == 1:
            self._tell("client connected", party, address.host)

    def left(self, party: Party) -> None:
        """Count one link, or one half of a pair, less."""
        self._held[party] -= 1
        if not self._held[party]:
            del self._held[party]
            self._tell("client gone", party, None)

    @staticmethod
    def _tell(what: str, party: Party, host: str | None) -> None:
        event(
            log,
            logging.INFO,
            what,
            budget_key=what,
            role=party.role,
            group=party.group,
            key=PublicKey(party.key).fingerprint,
            address=host,
        )
