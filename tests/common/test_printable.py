import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.printable import logfmt, printable, printable_json

HOSTILE = [
    ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
    ("a\r\n2026 info  forged", r"a\r\n2026 info  forged"),
    ("\x9b31m", r"\x9b31m"),
    ("user‮txt.exe", "user\\u202etxt.exe"),
    ("line\u2028break", "line\\u2028break"),
    ("\udcff", "\\udcff"),
    ("\U000e0041", "\\U000e0041"),
    ("Grüße 世界 🙂", "Grüße 世界 🙂"),
]


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("word", "word"),
        ("[::1]:80", "[::1]:80"),
        ("", '""'),
        ("two words", '"two words"'),
        ('say "hi"', r'"say \"hi\""'),
        ("a=b", '"a=b"'),
        ("c:\\new", r'"c:\\new"'),
        ("a\nb", r'"a\nb"'),
    ],
)
def test_logfmt(text: str, shown: str) -> None:
    assert logfmt(text) == shown


@given(st.text())
def test_nothing_unprintable_comes_out(text: str) -> None:
    assert printable(text).isprintable()
    assert logfmt(text).isprintable()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_keeps_its_meaning(text: str) -> None:
    shown = printable_json(json.dumps(text, ensure_ascii=False))
    assert shown.isprintable()
    assert json.loads(shown) == text
