"""Compares the drawing of a wire layout in a codec's docstring with the protocol's document."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType

PROTOCOL = Path(__file__).resolve().parents[2] / "docs" / "PROTOCOL.md"


def drawing(module: ModuleType) -> list[str]:
    """The first literal block (after ``::``) of the module's docstring, without its indent."""
    lines = inspect.cleandoc(module.__doc__ or "").splitlines()
    start = next(number for number, line in enumerate(lines) if line.endswith("::")) + 1
    block: list[str] = []
    for line in lines[start:]:
        if line and not line.startswith("    "):
            break
        block.append(line.removeprefix("    ").rstrip())
    return "\n".join(block).strip("\n").splitlines()


def assert_drawn_in_the_docs(module: ModuleType) -> None:
    """Every line of the drawing stands in docs/PROTOCOL.md, in the same order, without a gap."""
    expected = drawing(module)
    assert expected[0].startswith("+--"), expected
    text = [line.strip() for line in PROTOCOL.read_text(encoding="utf-8").splitlines()]
    wanted = [line.strip() for line in expected]
    starts = [n for n in range(len(text)) if text[n : n + len(wanted)] == wanted]
    assert starts, f"{PROTOCOL.name} does not draw this:\n" + "\n".join(expected)
