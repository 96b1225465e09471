"""Starts relay-server."""

from __future__ import annotations

import sys

from common.cli import run_cli
from relay_server.cli import PROGRAM, build


def main() -> int:
    """Run relay-server with the arguments of this process; returns its exit status."""
    return run_cli(build(), PROGRAM)


if __name__ == "__main__":
    sys.exit(main())
