"""The rooms of the house: who may import whom, and what stays pure.

Read from the syntax trees, so an import counts wherever it stands: in a function, behind a
condition, or for type checkers only (these alone are left out where purity is judged, since they
never run).

Layers, highest first; a module imports its own layer or lower ones::

    __main__  ->  cli  ->  app  ->  I/O (everything else)  ->  pure (PURE below)
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("entry_point", "gen_cert", "relay_server", "reverse_proxy")
PACKAGES = ("common", *PROGRAMS)
MOST_LINES = 400

# Decisions, codecs and grammars: bytes, text and times in, answers out.
PURE_IN = {
    "common": [
        "addresses",
        "backoff",
        "counters",
        "datagram_queue",
        "destinations",
        "errors",
        "exposure_grammar",
        "flow_table",
        "frames",
        "guarded_addresses",
        "introduction",
        "key_options",
        "keys",
        "link_states",
        "log_budget",
        "openssh_format",
        "outcome",
        "pool",
        "printable",
        "refusals",
        "route_grammar",
        "routes",
        "source_patterns",
        "source_table",
        "trusted_keys",
        "wire",
    ],
    "entry_point": ["explain"],
    "gen_cert": ["names"],
    "relay_server": [
        "admission",
        "http.answer",
        "http.body",
        "http.head",
        "http.pages",
        "http.question",
        "http.states",
        "matchmaker",
        "public.budget",
        "public.claims",
        "public.first_bytes",
        "public.name_table",
    ],
    "reverse_proxy": ["policy", "proxy_protocol", "visitor_addresses"],
}
PURE = frozenset(f"{package}.{name}" for package, names in PURE_IN.items() for name in names)

# Sockets, clocks, loops, randomness, threads, processes, files, logs.
OUTSIDE = frozenset(
    {
        "anyio",
        "asyncio",
        "concurrent",
        "fcntl",
        "http",
        "logging",
        "multiprocessing",
        "os",
        "random",
        "secrets",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "socketserver",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "urllib",
        "uvloop",
    }
)
# The same through builtins and through datetime, which pure modules may use to do sums.
OUTSIDE_CALLS = frozenset({"input", "now", "open", "print", "today", "utcnow"})
# entry_point.explain decides purely and prints, on the console it is given, in one function.
PRINTS = frozenset({"entry_point.explain"})


@dataclass(frozen=True, slots=True)
class Module:
    """A module of ours: its dotted name, its tree, and what it imports (dotted names)."""

    name: str
    path: Path
    tree: ast.Module
    imports: frozenset[str]
    imports_at_run_time: frozenset[str]

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {dotted(path): path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))}


def type_checking_only(tree: ast.Module) -> set[int]:
    """The ids of the nodes in ``if TYPE_CHECKING:`` blocks."""
    blocks = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    ]
    return {id(inner) for block in blocks for part in block.body for inner in ast.walk(part)}


def imported(node: ast.AST, name: str, is_package: bool) -> Iterator[str]:
    """Dotted names that an import statement loads; ours with every package on the way."""
    if isinstance(node, ast.Import):
        found = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        up = node.level - is_package
        above = name.split(".")[: len(name.split(".")) - up] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        below = [f"{base}.{alias.name}" for alias in node.names]
        found = [base, *(each for each in below if each in PATHS)]
    else:
        return
    for each in found:
        yield each
        if each in PATHS and "." in each:
            yield each.rpartition(".")[0]


def load(name: str, path: Path) -> Module:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    never_run = type_checking_only(tree)
    is_package = path.name == "__init__.py"
    everything: set[str] = set()
    at_run_time: set[str] = set()
    for node in ast.walk(tree):
        names = set(imported(node, name, is_package))
        everything |= names
        if id(node) not in never_run:
            at_run_time |= names
    return Module(name, path, tree, frozenset(everything), frozenset(at_run_time))


MODULES = {name: load(name, path) for name, path in PATHS.items()}


def layer(name: str) -> str:
    """The layer of one of our modules."""
    last = name.rpartition(".")[2]
    if last == "__main__":
        return "__main__"
    if last == "cli" or last.startswith("cli_"):
        return "cli"
    if last == "app":
        return "app"
    return "pure" if name in PURE or PATHS[name].name == "__init__.py" else "I/O"


LAYERS = ("pure", "I/O", "app", "cli", "__main__")
# Several modules make up these layers; there is one __main__ and one app in a program.
SHARED_LAYERS = frozenset({"pure", "I/O", "cli"})


def reached(start: Module) -> Iterator[tuple[Module, str]]:
    """Every module of ours that ``start`` loads, itself included, and the way there."""
    waiting, seen = [(start, start.name)], {start.name}
    while waiting:
        module, way = waiting.pop()
        yield module, way
        for name in sorted(module.imports_at_run_time - seen):
            if name in MODULES:
                seen.add(name)
                waiting.append((MODULES[name], f"{way} -> {name}"))


def each_module(names: Iterator[str] | frozenset[str]) -> list[object]:
    return [pytest.param(MODULES[name], id=name) for name in sorted(names) if name in MODULES]


ALL = each_module(frozenset(MODULES))


def test_there_is_something_to_check() -> None:
    assert set(PACKAGES) <= set(MODULES)
    assert "common.errors" in MODULES["common.addresses"].imports


@pytest.mark.parametrize("module", ALL)
def test_programs_do_not_know_each_other_and_common_knows_none(module: Module) -> None:
    allowed = {"common", module.package}
    strangers = {
        name for name in module.imports if name.partition(".")[0] in set(PACKAGES) - allowed
    }
    assert not strangers, f"{module.name} imports {sorted(strangers)}"


@pytest.mark.parametrize("module", ALL)
def test_nothing_imports_tests_or_benchmarks(module: Module) -> None:
    assert not {name for name in module.imports if name.split(".")[0] in ("tests", "benchmarks")}


@pytest.mark.parametrize("module", ALL)
def test_imports_point_one_way(module: Module) -> None:
    ours = layer(module.name)
    for name in sorted(module.imports & MODULES.keys()):
        theirs = layer(name)
        lower = LAYERS.index(theirs) < LAYERS.index(ours)
        assert lower or (theirs == ours and ours in SHARED_LAYERS), (
            f"{module.name} ({ours}) imports {name} ({theirs})"
        )


@pytest.mark.parametrize("module", ALL)
def test_imports_make_no_circle(module: Module) -> None:
    ways = [way for other, way in reached(module) if module.name in other.imports_at_run_time]
    assert module.name in PACKAGES or not ways, f"{ways} -> {module.name}"


@pytest.mark.parametrize("module", each_module(PURE))
def test_pure_modules_reach_nothing_outside(module: Module) -> None:
    for other, way in reached(module):
        outside = {name for name in other.imports_at_run_time if name.split(".")[0] in OUTSIDE}
        assert not outside, f"{way} imports {sorted(outside)}"


@pytest.mark.parametrize("module", each_module(PURE - PRINTS))
def test_pure_modules_read_no_clock_and_no_file_and_print_nothing(module: Module) -> None:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            assert called not in OUTSIDE_CALLS, (
                f"{module.name}:{node.lineno} calls {ast.unparse(node.func)}"
            )


def test_every_module_listed_as_pure_exists() -> None:
    assert sorted(PURE - MODULES.keys()) == []


@pytest.mark.parametrize("module", ALL)
def test_no_module_is_too_long(module: Module) -> None:
    lines = len(module.path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{module.name} has {lines} lines"


@pytest.mark.parametrize("package", PACKAGES)
def test_tests_mirror_the_packages(package: str) -> None:
    """``tests/<package>/test_<module>[_<aspect>].py``; whole programs are in tests/programs."""
    modules = {name.rpartition(".")[2] for name in MODULES if name.startswith(f"{package}.")}
    for path in sorted((ROOT / "tests" / package).rglob("test_*.py")):
        words = path.stem.removeprefix("test_").split("_")
        of = {"_".join(words[:count]) for count in range(1, len(words) + 1)}
        assert of & modules, f"{path.relative_to(ROOT)} tests no module of {package}"


def test_tests_have_no_other_rooms() -> None:
    rooms = {path.parent.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert rooms <= {"tests", "programs", "battery", "benchmarks", "fuzz", *PACKAGES}
