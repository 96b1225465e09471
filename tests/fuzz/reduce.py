"""Keeps of many inputs the smallest ones that still go every way through the code."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, Final

from tests.fuzz.registry import Harness

MOST_FILES: Final = 90
MOST_BYTES: Final = 160 * 1024

Way = tuple[str, int, int]
"""A file, and two lines of it that ran one after the other in one call."""


def ways(check: Callable[[bytes], None], data: bytes, files: frozenset[str]) -> set[Way]:
    """Return which ways ``data`` takes through ``files``."""
    found: set[Way] = set()
    last: dict[FrameType, int] = {}

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        name = frame.f_code.co_filename
        if name not in files:
            return None
        before = last.get(frame, 0)
        if event == "return":
            last.pop(frame, None)
            found.add((name, before, -1))
        else:
            found.add((name, before, frame.f_lineno))
            last[frame] = frame.f_lineno
        return trace

    sys.settrace(trace)
    try:
        check(data)
    finally:
        sys.settrace(None)
    return found


def reduce(harness: Harness, inputs: Iterable[bytes]) -> list[bytes]:
    """Return the inputs to keep, at most ``MOST_FILES`` with ``MOST_BYTES`` in all.

    The seeds count as kept already, and are left out.
    """
    loaded = harness.load()
    tested = (*harness.targets, loaded.check.__module__)
    files = frozenset(str(sys.modules[name].__file__) for name in tested)
    seen: set[Way] = set()
    for seed in loaded.seeds:
        loaded.check(seed)  # what is remembered of it is no way of its own
        seen |= ways(loaded.check, seed, files)
    kept: list[bytes] = []
    size = 0
    for data in sorted(set(inputs) - set(loaded.seeds), key=lambda each: (len(each), each)):
        if len(kept) == MOST_FILES or size + len(data) > MOST_BYTES:
            break
        new = ways(loaded.check, data, files)
        if not new <= seen:
            seen |= new
            kept.append(data)
            size += len(data)
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
