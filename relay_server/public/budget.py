"""How many visitors may be there at once: a pure decision.

Visitors may not use up what entry-points need: there is a limit for all of them together, one for
each exposure, and one for each source at an exposure, so that neither one service nor one visitor
keeps the others out. A source is an IPv4 address or an IPv6 /64.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from common.refusals import Refusal

PER_EXPOSURE: Final = 4096
"""Visitors of one exposure: as many as a reverse-proxy has channels for by default."""
PER_SOURCE: Final = 512
"""Visitors of one source at one exposure: an office behind one address, not a flood."""

ExposureT = TypeVar("ExposureT", bound=Hashable)


class Budget(Generic[ExposureT]):
    """The visitors there are."""

    def __init__(
        self, in_all: int, per_exposure: int = PER_EXPOSURE, per_source: int = PER_SOURCE
    ) -> None:
        self.in_all = in_all
        """The most visitors of all exposures together."""
        self._per_exposure, self._per_source = per_exposure, per_source
        self.total = 0
        """Visitors that have come in and not left."""
        self._of: Counter[ExposureT] = Counter()
        self._from: Counter[tuple[ExposureT, str]] = Counter()

    def admit(self, exposure: ExposureT, source: str) -> Refusal | None:
        """Count a visitor in, who has to :meth:`leave` later; or say why there is no room."""
        if self.total >= self.in_all:
            return Refusal(
                "too-many-visitors", f"{self.in_all} visitors in all; see --max-visitors"
            )
        if self._of.get(exposure, 0) >= self._per_exposure:
            return Refusal("busy-exposure", f"{self._per_exposure} visitors of this exposure")
        if self._from.get((exposure, source), 0) >= self._per_source:
            return Refusal("busy-source", f"{self._per_source} visitors from {source}")
        self.total += 1
        self._of[exposure] += 1
        self._from[exposure, source] += 1
        return None

    def leave(self, exposure: ExposureT, source: str) -> None:
        """Count a visitor out that was admitted."""
        self.total -= 1
        self._of[exposure] -= 1
        if not self._of[exposure]:
            del self._of[exposure]
        self._from[exposure, source] -= 1
        if not self._from[exposure, source]:
            del self._from[exposure, source]
