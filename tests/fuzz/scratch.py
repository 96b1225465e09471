"""Files for harnesses of what reads files: in memory where there is such a place."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

_IN_MEMORY: Final = Path("/dev/shm")


class Scratch:
    """One file, written anew for each input; it goes with the process."""

    def __init__(self) -> None:
        place = _IN_MEMORY if _IN_MEMORY.is_dir() else None
        self._file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - for the life of the process
            prefix="fuzz-", buffering=0, dir=place
        )
        self.path = Path(self._file.name)

    def write(self, data: bytes) -> None:
        """Let the file have this content."""
        self._file.seek(0)
        self._file.truncate()
        self._file.write(data)
