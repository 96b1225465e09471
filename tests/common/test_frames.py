from __future__ import annotations

import contextlib
from typing import TypeAlias

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import frames
from common.errors import ProtocolError
from common.frames import FrameReader, Open, Refused
from common.wire import Visit
from tests.common.wire_drawings import assert_drawn_in_the_docs

Frame: TypeAlias = tuple[int, bytes]

OPEN = Open("0", "tcp", "localhost", 80, "192.0.2.1", 4711)
REFUSED = Refused("unreachable", "127.0.0.1 port 80: Connection refused")
FRAMES: list[Frame] = [
    (frames.OPEN, frames.encode_open(OPEN)[4:]),
    (frames.DATA, b"some bytes"),
    (frames.FIN, b""),
    (frames.RESET, b""),
    (frames.REFUSED, frames.encode_refused(REFUSED)[4:]),
    (frames.PING, b""),
    (frames.PONG, b""),
    (frames.GOAWAY, b""),
]
EMPTY = sorted(kind for kind, payload in FRAMES if not payload)

each_frame = pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frames.NAMES[frame[0]])
streams_of_frames = st.lists(
    st.sampled_from(FRAMES) | st.tuples(st.just(frames.DATA), st.binary(min_size=1, max_size=50))
)


def take(reader: FrameReader, piece: bytes) -> list[Frame]:
    """Everything that is in ``piece``; slices of DATA as they come."""
    view, position = memoryview(piece), 0
    found: list[Frame] = []
    while True:
        kind, payload, position = reader.next(view, position)
        if not kind:
            assert position == len(view)
            return found
        found.append((kind, bytes(payload)))


def join_data(found: list[Frame]) -> list[Frame]:
    """The same with DATA that stands together as one: pieces of one frame cannot be told apart."""
    joined: list[Frame] = []
    for kind, payload in found:
        if kind == frames.DATA and joined and joined[-1][0] == frames.DATA:
            joined[-1] = (kind, joined[-1][1] + payload)
        else:
            joined.append((kind, payload))
    return joined


@each_frame
def test_a_frame_comes_whole(frame: Frame) -> None:
    reader = FrameReader()
    assert take(reader, frames.encode(*frame)) == [frame]
    assert reader.between_frames


@each_frame
def test_a_frame_comes_byte_by_byte(frame: Frame) -> None:
    found: list[Frame] = []
    reader = FrameReader()
    wire = frames.encode(*frame)
    for number, byte in enumerate(wire, start=1):
        found += take(reader, bytes([byte]))
        assert reader.between_frames is (number == len(wire))
    assert join_data(found) == [frame]


@each_frame
def test_what_follows_a_frame_is_left_alone(frame: Frame) -> None:
    wire = frames.encode(*frame)
    kind, payload, position = FrameReader().next(memoryview(wire + b"\xff\xff"), 0)
    assert (kind, bytes(payload), position) == (*frame, len(wire))


@each_frame
def test_a_frame_is_a_type_a_length_and_a_payload(frame: Frame) -> None:
    kind, payload = frame
    assert frames.encode(kind, payload) == bytes([kind]) + len(payload).to_bytes(3) + payload
    assert frames.header(kind, len(payload)) == frames.encode(kind, payload)[:4]


def test_data_is_a_slice_and_not_a_copy() -> None:
    wire = bytearray(frames.encode(frames.DATA, b"abc"))
    _, payload, _ = FrameReader().next(memoryview(wire), 0)
    assert isinstance(payload, memoryview)
    wire[4] = ord("X")
    assert payload.tobytes() == b"Xbc"


def test_data_that_was_put_back_comes_again() -> None:
    reader = FrameReader()
    wire = memoryview(frames.encode(frames.DATA, b"abcdef") + frames.encode(frames.FIN))
    _kind, payload, position = reader.next(wire, 0)
    reader.put_back(4)
    rest = take(reader, bytes(wire[position - 4 :]))
    assert bytes(payload[:2]) == b"ab"
    assert rest == [(frames.DATA, b"cdef"), (frames.FIN, b"")]


@given(streams_of_frames, st.data())
def test_any_frames_survive_any_cut_and_any_putting_back(
    expected: list[Frame], data: st.DataObject
) -> None:
    wire = b"".join(frames.encode(*each) for each in expected)
    reader, found, stash = FrameReader(), [], b""
    while wire or stash:
        size = data.draw(st.integers(0 if stash else 1, max(len(wire), 1)))
        view = memoryview(stash + wire[:size])
        wire, stash, position = wire[size:], b"", 0
        while True:
            kind, payload, position = reader.next(view, position)
            if not kind:
                break
            if kind == frames.DATA:
                taken = data.draw(st.integers(0, len(payload)))
                found.append((kind, bytes(payload[:taken])))
                if taken < len(payload):
                    reader.put_back(len(payload) - taken)
                    stash = bytes(view[position - (len(payload) - taken) :])
                    break
            else:
                found.append((kind, bytes(payload)))
    assert join_data([each for each in found if each[1] or each[0] != frames.DATA]) == join_data(
        expected
    )


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_any_bytes_are_frames_or_a_protocol_error(pieces: list[bytes]) -> None:
    reader = FrameReader()
    try:
        for piece in pieces:
            for kind, payload in take(reader, piece):
                assert kind in frames.NAMES
                assert len(payload) <= frames.MAX_DATA
    except ProtocolError:
        pass


@pytest.mark.parametrize("kind", [0, 14, 0x16, 0xFF])
def test_a_type_that_is_not_known_is_named(kind: int) -> None:
    with pytest.raises(ProtocolError, match=f"a frame of type {kind} with 1 bytes is not allowed"):
        take(FrameReader(), bytes([kind, 0, 0, 1]))


@pytest.mark.parametrize("kind", EMPTY)
def test_a_payload_where_none_belongs_is_refused(kind: int) -> None:
    with pytest.raises(ProtocolError, match=f"{frames.NAMES[kind]} with 1 bytes is not allowed"):
        take(FrameReader(), frames.header(kind, 1))


@pytest.mark.parametrize("kind", [frames.OPEN, frames.REFUSED])
@pytest.mark.parametrize("length", [0, frames.MAX_CONTROL + 1, frames.MAX_DATA])
def test_a_payload_that_is_empty_or_too_long_is_refused_at_its_header(
    kind: int, length: int
) -> None:
    with pytest.raises(ProtocolError, match=f"{frames.NAMES[kind]} with {length} bytes"):
        take(FrameReader(), frames.header(kind, length))


def test_data_without_data_is_refused() -> None:
    with pytest.raises(ProtocolError, match="a DATA frame without data is not allowed"):
        take(FrameReader(), frames.header(frames.DATA, 0))


def test_the_largest_data_frame_is_never_buffered() -> None:
    reader, piece = FrameReader(), memoryview(bytes(1 << 16))
    assert take(reader, frames.header(frames.DATA, frames.MAX_DATA)) == []
    left = frames.MAX_DATA
    while left:
        kind, payload, position = reader.next(piece, 0)
        assert kind == frames.DATA
        assert len(payload) == min(len(piece), left)
        left -= len(payload)
    assert position == len(payload)
    assert reader.between_frames


@pytest.mark.parametrize("message", [OPEN, Open("g", "tcp", "h" * 255, 65535, "", 0)])
def test_open_survives(message: Open) -> None:
    assert frames.decode_open(frames.encode_open(message)[4:]) == message


def test_visit_survives() -> None:
    visit = Visit(7, "2001:db8::1", 4711, "192.0.2.1", 80)
    assert frames.decode_visit(frames.encode_visit(visit)[4:]) == visit


def test_flow_survives() -> None:
    flow = frames.Flow(2**32 - 1, "192.0.2.1", 4711)
    assert frames.decode_flow(frames.encode_flow(flow)[4:]) == flow


@pytest.mark.parametrize("size", [0, 1, 65507])
def test_a_datagram_keeps_its_boundaries(size: int) -> None:
    data = bytes(size)
    wire = frames.encode_datagram(5, data) + frames.encode_forget(5)
    for step in (1, 4096, len(wire)) if size < 100 else (4096, len(wire)):
        reader, found = FrameReader(), []
        for start in range(0, len(wire), step):
            view, position, kind = memoryview(wire[start : start + step]), 0, 1
            while kind:
                kind, payload, position = reader.next(view, position)
                if kind:
                    found.append((kind, frames.flow_id(bytes(payload)), bytes(payload[4:])))
        assert found == [(frames.DATAGRAM, 5, data), (frames.FORGET, 5, b"")]


@pytest.mark.parametrize(
    ("kind", "size"),
    [(frames.DATAGRAM, 65512), (frames.FORGET, 5), (frames.FLOW, 4097), (frames.VISIT, 0)],
)
def test_a_frame_that_is_too_long_or_empty_is_a_protocol_error(kind: int, size: int) -> None:
    with pytest.raises(ProtocolError):
        FrameReader().next(memoryview(frames.header(kind, size)), 0)


@pytest.mark.parametrize("payload", [b"", b"abc", bytes(4)])
def test_a_flow_has_a_number(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        frames.flow_id(payload)


@pytest.mark.parametrize("payload", [b"", b"\x90", b"\x93\x00\xa0\x00", b"\xc1"])
def test_visits_and_flows_that_are_none_are_protocol_errors(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        frames.decode_visit(payload)
    with pytest.raises(ProtocolError):
        frames.decode_flow(payload)


def test_refused_survives() -> None:
    assert frames.decode_refused(frames.encode_refused(REFUSED)[4:]) == REFUSED


@pytest.mark.parametrize(
    "fields",
    [
        [],
        ["0", "sctp", "localhost", 80, "", 0],
        ["0", "tcp", "localhost", 80, "", 0, "proxy-v3"],
        ["", "tcp", "localhost", 80, "", 0],
        ["0", "tcp", "", 80, "", 0],
        ["0", "tcp", "h" * 256, 80, "", 0],
        ["0", "tcp", "localhost", 0, "", 0],
        ["0", "tcp", "localhost", 65536, "", 0],
        ["0", "tcp", "localhost", 80, "s" * 65, 0],
    ],
)
def test_an_open_that_is_none_is_a_protocol_error(fields: object) -> None:
    with pytest.raises(ProtocolError, match="not an OPEN frame: "):
        frames.decode_open(msgspec.msgpack.encode(fields))


@given(st.binary(max_size=100))
def test_any_payload_is_understood_or_a_protocol_error(payload: bytes) -> None:
    for decode in (frames.decode_open, frames.decode_refused):
        with contextlib.suppress(ProtocolError):
            decode(payload)


def test_a_frame_at_the_wrong_time_is_named() -> None:
    error = frames.not_allowed(frames.GOAWAY, "on an idle channel")
    assert str(error) == "GOAWAY is not allowed on an idle channel"


def test_the_layout_is_drawn_the_same_in_the_docs() -> None:
    assert_drawn_in_the_docs(frames)
