"""The demonstrations of the public side, as a newcomer runs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = sorted(path.stem for path in (ROOT / "demo" / "rows").glob("*.sh") if path.stem != "lib")

needs = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl", "ssh-keygen"))),
    reason="needs bash, curl and ssh-keygen",
)


def test_there_is_one_for_each_kind_of_user() -> None:
    assert ROWS == ["addresses", "expose", "names", "single-port"]


@needs
@pytest.mark.timeout(120)
@pytest.mark.parametrize("row", ROWS)
def test_it_works(row: str, tmp_path: Path) -> None:
    programs = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", ROOT / "demo" / "rows" / f"{row}.sh"],
        env={
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "SCREENSHOTS": "",
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "It works." in done.stdout
