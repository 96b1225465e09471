"""``python -m tests.battery``: run the cases, one line each."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
import traceback
from collections import Counter

from rich.console import Console
from rich.markup import escape

from tests.battery.bench import Battery
from tests.battery.registry import Skipped, all_cases


def main() -> int:
    """Return 0 if no case failed."""
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
    counts = Counter[str]()
    for each in cases:
        begin = time.monotonic()
        came, state = "held", "[green]ok  [/]"
        try:
            with console.status(each.name):
                figure = each.run(Battery(quick=wanted.quick, seed=seed, soak_minutes=wanted.soak))
        except Skipped as reason:
            came, state, figure = "skipped", "[yellow]skip[/]", str(reason)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other cases come next
            traceback.print_exc()
            came, state = "failed", "[red]FAIL[/]"
            figure = (str(error).splitlines() or [""])[0] or type(error).__name__
        counts[came] += 1
        console.print(state, each.name, "-", escape(figure), f"({time.monotonic() - begin:.1f} s)")
    told = ", ".join(f"{counts[each]} {each}" for each in ("held", "skipped", "failed"))
    console.print(f"{told}; seed {seed}")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
