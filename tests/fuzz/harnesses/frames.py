"""Frames of a channel: what one partner says to the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from common import frames
from common.errors import ProtocolError
from common.frames import FrameReader, Open, Refused
from common.wire import Visit, sentence
from tests.fuzz.outcome import outcome
from tests.fuzz.pieces import piece_size

OPEN: Final = Open("0", "tcp", "127.0.0.1", 80, "192.0.2.7", 4711)
FULL_OPEN: Final = Open("a", "udp", "x.lan", 53, "::1", 1, "proxy-v2", "::", 53)
# The first byte: 1 lets the harness write the header, the rest is the size of pieces.
SEEDS: Final = (
    *(
        b"\x01" + bytes([whole[0]]) + whole[4:]
        for whole in (
            frames.encode_open(OPEN),
            frames.encode_open(FULL_OPEN),
            frames.encode_refused(Refused("unreachable", "nobody there")),
            frames.encode_visit(Visit(1, "192.0.2.7", 4711, "192.0.2.1", 80)),
            frames.encode_flow(frames.Flow(1, "192.0.2.7", 4711)),
            frames.encode_datagram(1, b"abc"),
            frames.encode_forget(1),
            frames.encode(frames.DATA, b"data"),
            frames.encode(frames.PING),
        )
    ),
    b"\x00" + frames.encode_open(OPEN) + frames.encode(frames.DATA, b"hello" * 9),
    b"\x06" + frames.encode(frames.DATA, b"hello") + frames.encode(frames.FIN),
    b"\x02" + frames.encode(frames.PING) * 3 + frames.encode(frames.DONE) + b"\x02\x00",
    b"\x01\x0b\x94\x01\xa0\x00" + b"\x91" * 1100 + b"\xc0",  # nested too deeply
)
WORDS: Final = (
    *(frames.encode(kind) for kind in frames.NAMES),
    *(word.encode() for word in ("tcp", "udp", "proxy-v1", "proxy-v2", "loopback")),
    b"\x99",
    b"\x96",
    b"\x93",
    b"\xcd\xff\xff",
)
Frames = list[tuple[int, bytes]]
MOST_CHECKED: Final = 4
"""Frames of one input that are looked at in full; all are read."""


def read(stream: bytes, most: int, *, hesitant: bool = False) -> tuple[Frames, str, bool]:
    """Read ``stream`` in pieces: frames (DATA joined), the error, whether nothing is half read.

    Args:
        hesitant: half of each slice of DATA is put back and taken again.
    """
    reader, found, joinable = FrameReader(), Frames(), False
    for start in range(0, len(stream), most):
        view, position = memoryview(stream)[start : start + most], 0
        while True:
            before = position
            try:
                kind, payload, position = reader.next(view, position)
            except ProtocolError as error:
                return found, str(error), False
            assert before <= position <= len(view)
            if not kind:
                assert position == len(view)
                break
            if kind != frames.DATA:
                found.append((kind, bytes(payload)))
                joinable = False
                continue
            back = len(payload) // 2 if hesitant else 0
            reader.put_back(back)
            position -= back
            taken = bytes(payload[: len(payload) - back])
            assert taken
            if joinable:
                found[-1] = frames.DATA, found[-1][1] + taken
            else:
                found.append((frames.DATA, taken))
            joinable = True
    return found, "", reader.between_frames


def whole(frame: bytes) -> bytes:
    """Return the payload of one frame, which is there whole."""
    ((_, payload),), error, complete = read(frame, len(frame))
    assert not error
    assert complete
    return payload


def check_open(payload: bytes) -> None:
    message = frames.decode_open(payload)
    assert frames.decode_open(whole(frames.encode_open(message))) == message


def check_refused(payload: bytes) -> None:
    message = frames.decode_refused(payload)
    cut = msgspec.structs.replace(message, detail=sentence(message.detail))
    assert frames.decode_refused(whole(frames.encode_refused(message))) == cut


def check_visit(payload: bytes) -> None:
    message = frames.decode_visit(payload)
    assert frames.decode_visit(whole(frames.encode_visit(message))) == message


def check_flow(payload: bytes) -> None:
    message = frames.decode_flow(payload)
    assert frames.decode_flow(whole(frames.encode_flow(message))) == message


def check_datagram(payload: bytes) -> None:
    flow = frames.flow_id(payload)
    assert whole(frames.encode_datagram(flow, payload[4:])) == payload


def check_forget(payload: bytes) -> None:
    assert whole(frames.encode_forget(frames.flow_id(payload))) == payload


PAYLOADS: Final[dict[int, Callable[[bytes], None]]] = {
    frames.OPEN: check_open,
    frames.REFUSED: check_refused,
    frames.VISIT: check_visit,
    frames.FLOW: check_flow,
    frames.DATAGRAM: check_datagram,
    frames.FORGET: check_forget,
}


def check(data: bytes) -> None:
    if len(data) < 2:
        return
    stream = data[1:]
    if data[0] & 1:
        stream = frames.encode(data[1], data[2:])
    result = read(stream, len(stream))
    assert read(stream, piece_size(data[0] >> 1, stream)) == result
    assert read(stream, len(stream), hesitant=True) == result
    for kind, payload in result[0][:MOST_CHECKED]:
        assert len(payload) <= frames.FLOW_ID.size + frames.MAX_DATAGRAM or kind == frames.DATA
        if kind in PAYLOADS:
            error = outcome(ProtocolError, partial(PAYLOADS[kind], payload))
            assert error is None or str(error)
        else:
            assert kind == frames.DATA or not payload
