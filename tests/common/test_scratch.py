from __future__ import annotations

from pathlib import Path

from common.scratch import scratch

SIZE = 64 * 1024 * 1024


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_memory_is_taken_as_it_is_used() -> None:
    before = resident()
    buffer = scratch(SIZE)
    assert len(buffer) == SIZE
    assert resident() - before < SIZE // 4
    buffer[:] = bytes(SIZE)
    assert resident() - before > SIZE // 2
    assert bytes(buffer[SIZE - 4 :]) == bytes(4)
