"""Counters are plain ints in a dataclass: counting costs one addition, and tests read them."""

from __future__ import annotations

from dataclasses import field


def counter(text: str) -> int:
    """Return a dataclass field that counts up from 0; ``text`` says what, for ``--metrics``."""
    value: int = field(default=0, metadata={"help": text, "kind": "counter"})
    return value
