"""Buffers that every connection of a process shares: one loop, and never two reads at once."""

from __future__ import annotations

import mmap


def scratch(size: int) -> memoryview:
    """Return a buffer of ``size`` bytes that takes no memory before it is used.

    A ``bytearray`` is filled with zeros when it is made; these pages come from the kernel one by
    one, when something is written to them. An idle program never touches most of them.
    """
    return memoryview(mmap.mmap(-1, size))
