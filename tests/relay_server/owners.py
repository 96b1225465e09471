"""Keys that may expose, and the processes that hold them."""

from __future__ import annotations

from common.keys import Identity
from relay_server.public.claims import Owner

KEYS = [Identity.from_seed(bytes([n]) * 32, f"key-{n}").public for n in range(1, 4)]
ALICE: Owner = (KEYS[0].raw, b"a" * 16)
ALICE_TOO: Owner = (KEYS[0].raw, b"b" * 16)
BOB: Owner = (KEYS[1].raw, b"c" * 16)
