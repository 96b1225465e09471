"""Starts entry-point."""

from __future__ import annotations

import sys

from common.cli import run_cli
from entry_point.cli import PROGRAM, build


def main() -> int:
    """Run entry-point with the arguments of this process; returns its exit status."""
    return run_cli(build(), PROGRAM)


if __name__ == "__main__":
    sys.exit(main())
