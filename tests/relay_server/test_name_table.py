"""Names and wildcards against a walk over all of them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_server.public.name_table import NameTable

TABLE = ("a.b", "*.b", "*.a.b", "x.a.b", "*.c.a.b", "ab", "*.bb")


def table(names: tuple[str, ...] | list[str] = TABLE) -> NameTable[str]:
    made = NameTable[str]()
    for name in names:
        made.put(name, name)
    return made


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("a.b", "a.b"),
        ("x.a.b", "x.a.b"),
        ("y.a.b", "*.a.b"),
        ("y.x.a.b", "*.a.b"),
        ("c.a.b", "*.a.b"),
        ("y.c.a.b", "*.c.a.b"),
        ("c.b", "*.b"),
        ("b", None),
        ("bb", None),
        ("a.bb", "*.bb"),
        ("xb", None),
        ("ab", "ab"),
        ("", None),
        (".", None),
        ("b.", None),
    ],
)
def test_an_exact_name_beats_wildcards_and_the_longest_of_these_wins(
    host: str, found: str | None
) -> None:
    assert table().match(host) == found
    assert table(TABLE[::-1]).match(host) == found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.b", {"a.b", "*.b"}),
        ("*.b", {"a.b", "*.b", "*.a.b", "x.a.b", "*.c.a.b"}),
        ("*.a.b", {"*.b", "*.a.b", "x.a.b", "*.c.a.b"}),
        ("*.x.a.b", {"*.b", "*.a.b"}),
        ("b", set()),
        ("*.ab", set()),
        ("z.bb", {"*.bb"}),
    ],
)
def test_what_overlaps(name: str, found: set[str]) -> None:
    overlapping = list(table().overlapping(name))
    assert set(overlapping) == found
    assert len(overlapping) == len(found)


names = st.builds(
    "{}{}".format,
    st.sampled_from(["", "*."]),
    st.lists(st.sampled_from(["a", "b", "ab", "a-b"]), min_size=1, max_size=4).map(".".join),
)


def covers(wildcard: str, name: str) -> bool:
    return wildcard.startswith("*.") and name.removeprefix("*.").endswith(wildcard[1:])


@given(st.lists(names, unique=True, max_size=12), st.data())
def test_as_a_naive_model(kept: list[str], data: st.DataObject) -> None:
    made = table(kept)
    for name in data.draw(st.lists(st.sampled_from(kept), unique=True)) if kept else []:
        made.remove(name)
        kept = [each for each in kept if each != name]
    asked = data.draw(names)
    rivals = [each for each in kept if each == asked or covers(each, asked) or covers(asked, each)]
    assert sorted(made.overlapping(asked)) == sorted(rivals)
    host = asked.removeprefix("*.")
    wildcards = sorted((each for each in kept if covers(each, host)), key=len)
    best = host if host in kept else (wildcards[-1] if wildcards else None)
    assert made.match(host) == best
    assert len(made) == len(kept)
    assert all(made.get(each) == each for each in kept)


def test_a_name_that_is_put_again_is_there_once() -> None:
    made = table(["a.b"])
    made.put("a.b", "new")
    assert list(made.overlapping("*.b")) == ["new"]
    made.remove("a.b")
    assert list(made.overlapping("*.b")) == []
    assert made.get("a.b") is None


def test_nothing_walks_all_names() -> None:
    """With 50,000 names, 2,000 grants cost some 10 ms; walks would take half a minute."""
    made = table([f"n{number}.example.org" for number in range(50_000)])
    start = time.perf_counter()
    for number in range(2_000):
        assert list(made.overlapping(f"n{number}.example.org")) == [f"n{number}.example.org"]
        assert list(made.overlapping(f"*.n{number}.example.org")) == []
    assert time.perf_counter() - start < 2.0
