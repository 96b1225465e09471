"""Files for harnesses of what reads files: without a name, in memory where that is possible."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

_IN_MEMORY: Final = Path("/dev/shm")


class Scratch:
    """One file, written anew for each input; nothing is left of it, however the process ends."""

    def __init__(self) -> None:
        place = _IN_MEMORY if _IN_MEMORY.is_dir() else None
        self._file = tempfile.TemporaryFile(buffering=0, dir=place)  # noqa: SIM115
        self.path = Path(f"/dev/fd/{self._file.fileno()}")

    def write(self, data: bytes) -> None:
        """Let the file have this content."""
        self._file.seek(0)
        self._file.truncate()
        self._file.write(data)
        self._file.seek(0)
