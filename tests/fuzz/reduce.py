"""Keeps of many inputs the smallest ones that still go every way through the code."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, Final

from tests.fuzz.registry import Harness

MOST_FILES: Final = 90
MOST_BYTES: Final = 160 * 1024

Way = tuple[str, int, int, int]
"""A file, two lines of it that ran one after the other in one call, and how often (log2)."""


def ways(check: Callable[[bytes], None], data: bytes, files: frozenset[str]) -> set[Way]:
    """Return which ways ``data`` takes through ``files``."""
    found: Counter[tuple[str, int, int]] = Counter()
    last: dict[FrameType, int] = {}

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        name = frame.f_code.co_filename
        if name not in files:
            return None
        line = -1 if event == "return" else frame.f_lineno
        found[name, last.get(frame, 0), line] += 1
        last[frame] = line
        if event == "return":
            del last[frame]
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        check(data)
    finally:
        sys.settrace(before)
    return {(*each, times.bit_length()) for each, times in found.items()}


def reduce(harness: Harness, inputs: Iterable[bytes]) -> list[bytes]:
    """Return the inputs to keep, at most ``MOST_FILES`` with ``MOST_BYTES`` in all.

    Those that go the most ways that no other kept one goes come first, short ones before long ones.
    """
    check = harness.load().check
    tested = (*harness.targets, check.__module__)
    files = frozenset(str(sys.modules[name].__file__) for name in tested)
    left = {}
    short = {each for each in inputs if len(each) <= harness.longest}
    for data in sorted(short, key=lambda each: (len(each), each)):
        check(data)  # what is remembered of it by caches is no way of its own
        left[data] = ways(check, data, files)
    kept: list[bytes] = []
    while left and len(kept) < MOST_FILES:
        best = max(left, key=lambda data: len(left[data]))
        gone = left.pop(best)
        if not gone:
            break
        if sum(map(len, kept)) + len(best) <= MOST_BYTES:
            kept.append(best)
            left = {data: its - gone for data, its in left.items() if its - gone}
    return kept


def rewrite(folder: Path, inputs: Iterable[bytes]) -> None:
    """Let ``folder`` hold exactly ``inputs``, each under its hash."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {hashlib.sha256(data).hexdigest()[:16]: data for data in inputs}
    for path in folder.iterdir():
        if path.name not in wanted:
            path.unlink()
    for name, data in wanted.items():
        (folder / name).write_bytes(data)
