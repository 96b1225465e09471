"""The harnesses, and what each of them is to reach.

A harness is a module of :mod:`tests.fuzz.harnesses` with

* ``check(data)``: takes any bytes, and asserts what must hold of them;
* ``SEEDS``: inputs that get past the first look of the parser;
* ``WORDS``: what mutations are made of, besides chance.

This module imports none of them: what is to be instrumented must not have been loaded before.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CORPORA: Final = Path(__file__).parent / "corpora"


@dataclass(frozen=True, slots=True)
class Harness:
    """One harness.

    Args:
        targets: the modules under test: those that are instrumented.
        longest: bytes of the longest input that is tried.
    """

    name: str
    targets: tuple[str, ...]
    longest: int

    @property
    def corpus(self) -> Path:
        """Where its inputs are kept."""
        return CORPORA / self.name

    def load(self) -> Loaded:
        """Import the harness and, with it, what it tests."""
        module = importlib.import_module(f"tests.fuzz.harnesses.{self.name}")
        return Loaded(module.check, module.SEEDS, module.WORDS)

    def inputs(self) -> list[bytes]:
        """Return its seeds and its corpus."""
        kept = [path.read_bytes() for path in sorted(self.corpus.glob("*"))]
        return [*self.load().seeds, *kept]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the module of a harness says."""

    check: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...]


HARNESSES: Final = {
    name: Harness(name, targets, longest)
    for name, targets, longest in (
        ("addresses", ("common.addresses", "common.destinations", "common.source_patterns"), 128),
        ("certificates", ("common.introduction",), 1024),
        ("claims", ("relay_server.public.claims", "relay_server.public.name_table"), 256),
        ("config", ("common.config_file", "common.setting_fields", "tomllib"), 1024),
        ("control", ("common.wire", "common.link_states"), 256),
        ("datagrams", ("common.datagram_queue", "common.flow_table", "common.frames"), 48),
        ("exposures", ("common.exposure_grammar", "common.route_grammar"), 128),
        ("first_bytes", ("relay_server.public.first_bytes",), 1024),
        ("frames", ("common.frames",), 256),
        ("http_answer", ("relay_server.http.answer", "relay_server.http.head"), 512),
        ("http_body", ("relay_server.http.body",), 256),
        ("http_head", ("relay_server.http.head", "relay_server.http.question"), 1024),
        ("key_files", ("common.keys", "common.openssh_format"), 1024),
        ("proxy_header", ("reverse_proxy.proxy_protocol",), 128),
        ("routes", ("common.route_grammar", "common.routes", "common.source_table"), 128),
        ("trusted_keys", ("common.trusted_keys", "common.key_options"), 1024),
        ("visitors", ("reverse_proxy.visitors_file", "reverse_proxy.visitor_addresses"), 512),
    )
}
