"""What this reverse-proxy may be asked to dial (``--allow``).

Two rules, both on the address that will be dialled, so that a name cannot lead somewhere else:

1. A guarded address (link-local, with it the cloud's metadata service; unspecified; multicast;
   broadcast; see :mod:`common.guarded_addresses`) is refused unless an entry names it by address:
   an entry whose own network is guarded. ``0.0.0.0/0``, ``*`` or a name do not.
2. With a list, the destination has to match an entry. Without one, anything may be dialled.
"""

from __future__ import annotations

from collections.abc import Iterable

from common.addresses import IPAddress, parse_ip
from common.destinations import DestinationPattern, parse_destination_pattern
from common.errors import AddressError, SettingError
from common.guarded_addresses import carried_addresses, guarded_kind, is_guarded_network
from common.printable import printable
from common.refusals import Refusal, listing


class Policy:
    """The destinations that may be dialled.

    Args:
        entries: the list; ``None`` is no list at all (an empty one allows nothing).
    """

    __slots__ = ("_entries", "_naming")

    def __init__(self, entries: Iterable[DestinationPattern] | None = None) -> None:
        self._entries = None if entries is None else tuple(entries)
        # The entries that name guarded addresses.
        self._naming = tuple(
            each
            for each in self._entries or ()
            if each.network is not None and is_guarded_network(each.network)
        )

    @classmethod
    def from_list(cls, texts: list[str]) -> Policy:
        """Return the policy that ``--allow`` asks for.

        Args:
            texts: entries as in :mod:`common.destinations`; without ports, any port. An empty
                list is the default: everything that is not guarded.

        Raises:
            SettingError: an entry is malformed.
        """
        if not texts:
            return cls()
        try:
            return cls([parse_destination_pattern(text, port_required=False) for text in texts])
        except AddressError as error:
            raise SettingError(f"--allow: {error}") from None

    def check(self, host: str, ip: str, port: int) -> Refusal | None:
        """Return why a destination may not be dialled, or ``None`` if it may.

        Args:
            host: the destination as it was asked for: a name or an address.
            ip: the address it was resolved to, which will be dialled.
            port: the port that will be dialled, 1 to 65535.

        Raises:
            AddressError: ``ip`` is no address.
        """
        address = parse_ip(ip)
        for each in carried_addresses(address):
            kind = guarded_kind(each)
            if kind is not None and not self._names(host, each, port):
                entry = _entry(each, port) if self._entries else f"'*,{_entry(each, port)}'"
                return Refusal(
                    "guarded-address",
                    f"{_asked(host, address, port)} is refused: {_carried(address, each)}"
                    f" is {kind}; if it is meant, add --allow {entry} at the"
                    " reverse-proxy",
                )
        if self._entries is None or any(
            each.matches(host, address, port) for each in self._entries
        ):
            return None
        return Refusal(
            "not-permitted",
            f"{_asked(host, address, port)} is not in the list of --allow"
            f" ({self}); add {_entry(address, port)} to it at the reverse-proxy",
        )

    def __str__(self) -> str:
        if self._entries is None:
            return "everything but guarded addresses"
        return listing(self._entries) or "nothing"

    def _names(self, host: str, address: IPAddress, port: int) -> bool:
        return any(each.matches(host, address, port) for each in self._naming)


def _asked(host: str, address: IPAddress, port: int) -> str:
    resolved = "" if host == str(address) else f" ({address})"
    return f"{printable(host)}{resolved} port {port}"


def _carried(address: IPAddress, guarded: IPAddress) -> str:
    return str(guarded) if guarded == address else f"{guarded}, which {address} leads to,"


def _entry(address: IPAddress, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
