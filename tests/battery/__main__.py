"""``python -m tests.battery``: run the cases, one line each."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
import traceback

from rich.console import Console

from tests.battery.bench import Battery
from tests.battery.registry import Skipped, all_cases


def main() -> int:
    """Return 0 if every case held."""
    parser = argparse.ArgumentParser(prog="tests.battery", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the sizes of make test")
    parser.add_argument("--only", default="", help="cases whose name has these words")
    parser.add_argument("--seed", type=int, default=0, help="repeat a run (default: a new one)")
    parser.add_argument("--soak", type=float, default=20, help="minutes of the soak")
    parser.add_argument("--list", action="store_true", help="name the cases and end")
    wanted = parser.parse_args()
    cases = [each for each in all_cases() if wanted.only in each.name]
    if wanted.list:
        print(*(each.name for each in cases), sep="\n")
        return 0
    if not cases:
        print(f"no case is called like {wanted.only!r}; --list names them", file=sys.stderr)
        return 2
    seed = wanted.seed or random.SystemRandom().randrange(1, 1 << 31)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"fault battery: {len(cases)} cases, seed {seed}, {os.cpu_count()} cores")
    failed = 0
    for each in cases:
        begin = time.monotonic()
        state = "[green]ok  [/]"
        try:
            with console.status(each.name):
                figure = each.run(Battery(quick=wanted.quick, seed=seed, soak_minutes=wanted.soak))
        except Skipped as reason:
            state, figure = "[yellow]skip[/]", str(reason)
        except (AssertionError, OSError) as error:
            traceback.print_exc()
            state, figure = "[red]FAIL[/]", (str(error).splitlines() or [type(error).__name__])[0]
            failed += 1
        console.print(state, each.name, "-", figure, f"({time.monotonic() - begin:.1f} s)")
    console.print(f"{len(cases) - failed} held, {failed} failed; seed {seed}")
    return 1 if failed else 0


sys.exit(main())
