"""The pattern list of ``from=``, as OpenSSH reads it (ssh_config(5) PATTERNS).

Comma separated: addresses, CIDR, and wildcards over an address's text (``*`` any characters, ``?``
one); ``!`` before an item refuses what it matches, whatever else matches. IPv6 is compared in the
form of RFC 5952, IPv4-mapped IPv6 as IPv4. Host names are an error: no reverse look-up is done, so
a name could never match.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass

from common.addresses import IPAddress, IPNetwork, parse_network
from common.errors import AddressError

# With a dot: IPv4. With a colon: IPv6. With neither: digits and wildcards. "*.de" is a name.
_WILDCARD = re.compile(r"(?=.*[*?])([0-9.*?]+|(?=.*:)[0-9a-fA-F:*?]+)")
_NAME = re.compile(r"[A-Za-z0-9_*?][A-Za-z0-9_.*?-]*")


@dataclass(frozen=True, slots=True)
class SourcePattern:
    """One item: a network, or a wildcard (then ``network`` is ``None``); perhaps negated."""

    negated: bool
    network: IPNetwork | None
    wildcard: re.Pattern[str] | None

    def matches(self, address: IPAddress) -> bool:
        """Tell whether the item matches ``address``, negation left aside."""
        if self.wildcard is not None:
            return self.wildcard.fullmatch(str(address)) is not None
        return self.network is not None and address in self.network


@dataclass(frozen=True, slots=True)
class SourcePatterns:
    """A whole list.

    Args:
        items: at least one that is not negated.
        text: as it was written, for messages.
    """

    items: tuple[SourcePattern, ...]
    text: str

    def admits(self, address: IPAddress) -> bool:
        """Tell whether an item matches ``address`` and no negated item does."""
        admitted = False
        for item in self.items:
            if item.matches(address):
                if item.negated:
                    return False
                admitted = True
        return admitted


def parse_source_patterns(text: str) -> SourcePatterns:
    """Return the list that ``text`` is.

    Raises:
        AddressError: an item is empty, a host name or malformed; or all items are negated.
    """
    items = tuple(_parse_item(item.strip(), text) for item in text.split(","))
    if all(item.negated for item in items):
        raise AddressError(
            f"{text!r} refuses addresses and admits none; add what it admits, such as {text},*"
        )
    return SourcePatterns(items, text)


def _parse_item(item: str, text: str) -> SourcePattern:
    negated = item.startswith("!")
    bare = item[1:].strip() if negated else item
    if not bare:
        raise AddressError(f"an empty item in {text!r}; remove the comma, or write an address")
    if _WILDCARD.fullmatch(bare):
        # No brackets can be in it, so translate() sees only * and ?; it never backtracks far.
        return SourcePattern(negated, None, re.compile(fnmatch.translate(bare.lower())))
    try:
        return SourcePattern(negated, parse_network(bare), None)
    except AddressError:
        if re.search("[A-Za-z]", bare) and ":" not in bare and _NAME.fullmatch(bare):
            raise AddressError(
                f"{bare!r} is a host name, and addresses are not looked up; write the address or"
                " network, such as 192.0.2.7 or 10.0.0.0/8"
            ) from None
        raise
