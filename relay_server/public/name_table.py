"""Values by host name, wildcards included: what a visitor means, and what would be in the way.

``*.name`` stands for every name below ``name``, however deep. Names are lower-case and have no
final dot. Nothing here walks all names: a grant costs as much as the name has labels, and as there
are names below a wildcard.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")


class NameTable(Generic[ValueT]):
    """What is there for which name."""

    __slots__ = ("_backwards", "_values")

    def __init__(self) -> None:
        self._values: dict[str, ValueT] = {}
        self._backwards: list[str] = []  # sorted: names below one name are neighbours

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: str) -> ValueT | None:
        """Return the value for exactly this name or wildcard."""
        return self._values.get(name)

    def put(self, name: str, value: ValueT) -> None:
        """Set the value for a name or wildcard."""
        if name not in self._values:
            insort(self._backwards, name[::-1])
        self._values[name] = value

    def remove(self, name: str) -> None:
        """Forget the value for a name or wildcard; there is one."""
        del self._values[name]
        del self._backwards[bisect_left(self._backwards, name[::-1])]

    def match(self, host: str) -> ValueT | None:
        """Return what a visitor means: the name itself, or else the longest wildcard over it."""
        value = self._values.get(host)
        return next(self._above(host), None) if value is None else value

    def overlapping(self, name: str) -> Iterator[ValueT]:
        """Return the values that a visitor could mean as well as one for ``name``."""
        yield from self._above(name.removeprefix("*."))
        if not name.startswith("*."):
            if name in self._values:
                yield self._values[name]
            return
        below = name[:0:-1]  # of "*.name": "eman."
        for at in range(bisect_left(self._backwards, below), len(self._backwards)):
            if not self._backwards[at].startswith(below):
                return
            yield self._values[self._backwards[at][::-1]]

    def _above(self, host: str) -> Iterator[ValueT]:
        """Return the values of the wildcards over a name, the longest first."""
        while "." in host:
            host = host.partition(".")[2]
            value = self._values.get(f"*.{host}")
            if value is not None:
                yield value
