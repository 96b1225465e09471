"""Records without data: key updates cost whoever decrypts them much, so there may be few."""

from __future__ import annotations

import contextlib
import os
import ssl

import pytest

from common.session import MOST_EMPTY, PLAINTEXT_SIZE, Session
from tests.common.loops import on_both_loops, run, turns, until
from tests.common.sessions import opener_session
from tests.programs.evil_client import update_keys

KEY_UPDATE = 27
"""Bytes of its record."""


def read(session: Session, buffer: memoryview, got: bytearray) -> int:
    count = session.read(buffer)
    got += buffer[:count]
    return count


@on_both_loops
@pytest.mark.parametrize("data", [b"", b"x", bytes(1000)], ids=["nothing", "a byte", "much"])
def test_a_flood_of_key_updates_ends_the_session(kind: str, data: bytes) -> None:
    """Whatever data comes in between: it pays for itself only."""

    async def main() -> None:
        near, far = await opener_session()
        buffer, got = memoryview(bytearray(PLAINTEXT_SIZE)), bytearray()
        sent = 0
        while not near.ended and sent < 100_000:
            with contextlib.suppress(OSError):
                update_keys(far, 20)
                sent += 20
                far.send(data)
            read(near, buffer, got)
        assert near.ended == "too many records without data"
        assert sent * KEY_UPDATE < 3 * MOST_EMPTY
        far.close()
        near.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("size", [7, 1000, 20_000])
def test_records_that_come_in_pieces_are_no_waste(
    kind: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long their rest takes, and whatever their size is."""
    monkeypatch.setattr(Session, "_ciphertext", memoryview(bytearray(size)))
    total = 20 * MOST_EMPTY if size > 7 else MOST_EMPTY // 2

    async def main() -> None:
        near, far = await opener_session()
        buffer, got = memoryview(bytearray(PLAINTEXT_SIZE)), bytearray()
        sent = os.urandom(total)
        left = memoryview(sent)
        number = 0
        while len(got) < total:
            with contextlib.suppress(ssl.SSLWantWriteError):
                while left:
                    number += 1
                    left = left[far.send(left[: (1, 100, 16_000, 40_000)[number % 4]]) :]
            read(near, buffer, got)
            assert not near.ended, len(got)
        assert got == sent
        far.close()
        near.close()

    run(kind, main)


@on_both_loops
def test_a_key_update_now_and_then_is_fine(kind: str) -> None:
    async def main() -> None:
        near, far = await opener_session()
        buffer, got = memoryview(bytearray(PLAINTEXT_SIZE)), bytearray()
        for _ in range(200):
            update_keys(far, 1)
            far.send(b"data")
            await turns(2)
            read(near, buffer, got)
        await until(lambda: read(near, buffer, got) or len(got) == 800, "all has come")
        assert not near.ended
        far.close()
        near.close()

    run(kind, main)
