"""``python -m tests.fuzz NAME``: fuzz one harness with atheris (``pip install atheris``).

What is found on the way is kept in ``build/fuzz/NAME``; ``--keep`` puts the inputs that are worth
it into the corpus of the repository.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any, Final

from tests.fuzz.reduce import reduce, rewrite
from tests.fuzz.registry import CORPORA, HARNESSES, Harness

WORK: Final = CORPORA.parents[2] / "build" / "fuzz"


def main() -> int:
    """Return 0, or 2 if it cannot begin; a find ends the process with a status of libFuzzer's."""
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.add_argument("name", nargs="?", choices=HARNESSES, help="the harness; none: list them")
    parser.add_argument("--executions", type=int, default=5_000_000)
    parser.add_argument("--seconds", type=int, default=0, help="the longest time (0: any)")
    parser.add_argument("--seed", type=int, default=0, help="of chance (0: a new one)")
    parser.add_argument("--input", type=Path, help="check one file instead, without atheris")
    parser.add_argument("--keep", action="store_true", help="reduce what was found to the corpus")
    wanted = parser.parse_args()
    if wanted.name is None:
        for each in HARNESSES.values():
            print(f"{each.name:14}", ", ".join(each.targets))
        return 0
    harness = HARNESSES[wanted.name]
    work = WORK / harness.name
    found = work / "corpus"
    if wanted.input:
        harness.load().check(wanted.input.read_bytes())
        return 0
    if wanted.keep:
        new = [path.read_bytes() for path in found.iterdir()] if found.is_dir() else []
        kept = reduce(harness, [*harness.inputs(), *new])
        rewrite(harness.corpus, kept)
        print(f"{harness.name}: {len(kept)} files, {sum(map(len, kept))} bytes")
        return 0
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        print("atheris is not installed; pip install atheris", file=sys.stderr)
        return 2
    fuzz(atheris, harness, work, wanted)
    return 0


def fuzz(atheris: Any, harness: Harness, work: Path, wanted: argparse.Namespace) -> None:
    """Fuzz until the executions, the time, or luck runs out; may end the process."""
    with atheris.instrument_imports(include=list(harness.targets)):
        loaded = harness.load()
    folders = [work / "corpus", work / "seeds", harness.corpus]
    for each in folders:
        each.mkdir(parents=True, exist_ok=True)
    rewrite(work / "seeds", loaded.seeds)
    words = work / "words"
    words.write_text("".join(map(quoted, loaded.words)), encoding="ascii")
    flags = {
        "atheris_runs": wanted.executions,
        "max_total_time": wanted.seconds,
        "seed": wanted.seed,
        "max_len": harness.longest,
        "dict": words,
        "artifact_prefix": f"{work}/",
        "timeout": 10,
        "rss_limit_mb": 1024,
        "print_final_stats": 1,
    }
    told = [f"-{name}={value}" for name, value in flags.items()]
    atheris.Setup([sys.argv[0], *told, *map(str, folders)], loaded.check)
    atheris.Fuzz()


def quoted(word: bytes) -> str:
    """Return a line of libFuzzer's dictionary."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n'


if __name__ == "__main__":
    sys.exit(main())
