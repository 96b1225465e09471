"""Datagrams: a window of them under way to an echo, on one flow."""

from __future__ import annotations

import socket
import time
from typing import Final

from benchmarks.load.talk import STALLED_S, Address, Figures

SIZE: Final = 512
LOST_S: Final = 0.2
"""Seconds without any reply after which what is under way is taken for lost."""


def datagrams(address: Address, seconds: float, count: int) -> Figures:
    """Keep ``count`` datagrams under way; return how many came back, and how many did not."""
    replied = lost = number = 0
    missing = set[int]()
    padding = bytes(SIZE - 8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(LOST_S)
        sock.connect(address)
        began = time.perf_counter()
        now = began
        heard = began
        while (now := time.perf_counter()) < began + seconds:
            while len(missing) < count:
                sock.send(number.to_bytes(8) + padding)
                missing.add(number)
                number += 1
            try:
                data = sock.recv(2 * SIZE)
            except TimeoutError:
                lost += len(missing)
                missing.clear()
                if now - heard > STALLED_S:
                    raise SystemExit("no reply") from None
                continue
            heard = now
            if len(data) != SIZE:
                raise SystemExit(f"a datagram of {len(data)} bytes came back")
            if (which := int.from_bytes(data[:8])) in missing:
                missing.remove(which)
                replied += 1
    if not replied:
        raise SystemExit("no datagram came back")
    return {"replied": replied, "lost": lost, "seconds": now - began}
