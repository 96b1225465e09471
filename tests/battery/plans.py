"""What is to happen on a stream, and the bytes it carries: made from its number and its side.

So an end can compare each piece as it comes: unlike a digest that also judges what was cut short,
and a byte of another stream is told from one that is merely wrong.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal

from common.addresses import HostPort

Side = Literal["source", "destination"]
SIDES: Final[tuple[Side, Side]] = ("source", "destination")
OTHER: Final[dict[Side, Side]] = {"source": "destination", "destination": "source"}

CELL: Final = 1021
"""Bytes that begin with the stream's number; a prime, so none of ours is a boundary of theirs."""
BLOCK: Final = 64 * CELL
STAMP: Final = struct.Struct("!4sQBI")
MAGIC: Final = b"\xfesTr"
"""A stamp is this, the stream's number, whether the source said it, and which cell it begins."""
FIRST: Final = STAMP.size
"""Bytes by which a destination knows the stream; no source says less."""


class Wrong(AssertionError):  # noqa: N818 - a verdict
    """A stream was not what it must be."""


class Fate(Enum):
    """What one end saw of a stream."""

    WHOLE = "whole"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens on one stream.

    Attributes:
        number: of the stream; unique.
        sizes: bytes that each side says before its FIN.
        waits: the side that says its part only after it has heard the other's end.
        aborts: the side that resets the connection, or nobody; a source has heard something.
        trigger: the abort comes when the side has said (``says``) or heard (``hears``) ``after``.
        pause_s: seconds of silence before the abort.
        pauses: offsets at which a side stops saying for so many seconds, by side.
        stalls: offsets at which a side stops reading for so many seconds, by side.
    """

    number: int
    sizes: dict[Side, int]
    waits: Side | None = None
    aborts: Side | None = None
    trigger: Literal["says", "hears"] = "says"
    after: int = 0
    pause_s: float = 0.0
    pauses: dict[Side, dict[int, float]] = field(default_factory=dict)
    stalls: dict[Side, dict[int, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Door:
    """A way into the suite, and the destination it leads to.

    Attributes:
        prefix: what a source has to say first to get there; the destination hears it too.
    """

    name: str
    address: HostPort
    prefix: bytes = b""


@dataclass(slots=True)
class Tally:
    """What has come of streams: fates as the two sides saw them, and bytes that were right."""

    streams: int = 0
    right: int = 0
    resets: dict[Side, int] = field(default_factory=lambda: {"source": 0, "destination": 0})
    seconds: float = 0.0


class Text:
    """The bytes that one side of a stream says, without end."""

    def __init__(self, number: int, side: Side) -> None:
        self._key = number, side == "source"
        self._block = bytearray(random.Random(f"{number} {side}").randbytes(BLOCK))
        self._index = -1

    def part(self, offset: int, most: int) -> bytes:
        """Return some of the bytes from ``offset`` on, at least one and at most ``most``."""
        index, at = divmod(offset, BLOCK)
        if index != self._index:
            self._index = index
            for start in range(0, BLOCK, CELL):
                cell = (index * BLOCK + start) // CELL
                STAMP.pack_into(self._block, start, MAGIC, *self._key, cell % (1 << 32))
        return bytes(self._block[at : at + most])

    def check(self, offset: int, data: bytes) -> None:
        """Compare ``data`` with what belongs at ``offset``.

        Raises:
            Wrong: it is something else; says from where on, and whose it is.
        """
        done = 0
        while done < len(data):
            due = self.part(offset + done, len(data) - done)
            got = data[done : done + len(due)]
            if got != due:
                at = next(
                    i for i, (one, other) in enumerate(zip(got, due, strict=True)) if one != other
                )
                raise Wrong(f"byte {offset + done + at} is wrong; {_whose(data[done + at :])}")
            done += len(due)


def _whose(data: bytes) -> str:
    at = data.find(MAGIC)
    if at < 0 or at + FIRST > len(data):
        return f"{len(data)} bytes from there on have no stamp"
    _, number, up, cell = STAMP.unpack_from(data, at)
    side = "source" if up else "destination"
    return f"{at} bytes later stands cell {cell} of the {side} of stream {number}"
