from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ProtocolError
from common.wire import (
    KEYS_PER_TRUST,
    MAX_GROUP,
    MAX_MESSAGE,
    MAX_PARTNERS,
    VERSION,
    Denied,
    GoAway,
    Hello,
    Message,
    MessageReader,
    Paired,
    Ping,
    Pong,
    Ready,
    Trust,
    Welcome,
    encode,
    trust_messages,
)
from tests.common.wire_drawings import assert_drawn_in_the_docs

KEY, INSTANCE = bytes(range(32)), bytes(range(16))
MESSAGES: list[Message] = [
    Trust([KEY, KEY[::-1]]),
    Hello([VERSION], "entry-point", "0", INSTANCE, "1.0"),
    Welcome(VERSION, 7, 10.0),
    Denied("unknown-key", "no: add this line"),
    Ping(),
    Pong(),
    GoAway(),
    Paired(KEY, INSTANCE, True, 3),
    Ready(),
]
each_message = pytest.mark.parametrize("message", MESSAGES, ids=lambda each: type(each).__name__)

keys = st.binary(min_size=32, max_size=32)
instances = st.binary(min_size=16, max_size=16)
words = st.text(max_size=64)
counts = st.integers(0, 2**31)
messages = st.one_of(
    st.builds(Trust, st.lists(keys, min_size=1, max_size=KEYS_PER_TRUST)),
    st.builds(
        Hello,
        st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=16),
        st.sampled_from(["entry-point", "reverse-proxy"]),
        st.text(min_size=1, max_size=MAX_GROUP),
        instances,
        words,
    ),
    st.builds(Welcome, st.integers(0, 2**31), counts, st.floats(0.001, 3600)),
    st.builds(Denied, words, st.text(max_size=900)),
    st.sampled_from([Ping(), Pong(), GoAway(), Ready()]),
    st.builds(Paired, keys, instances, st.booleans(), counts),
)


def read(reader: MessageReader, data: bytes) -> tuple[Message | None, bytes]:
    """Feed as a socket's owner does: never more than is needed. Return what is left."""
    while data:
        piece, data = data[: reader.need], data[reader.need :]
        message = reader.feed(piece)
        if message is not None:
            return message, data
    return None, b""


@each_message
def test_a_message_comes_whole(message: Message) -> None:
    assert read(MessageReader(), encode(message)) == (message, b"")


@each_message
def test_a_message_comes_byte_by_byte(message: Message) -> None:
    reader = MessageReader()
    *before, last = (bytes([each]) for each in encode(message))
    for each in before:
        assert reader.feed(each) is None
        assert not reader.empty
    assert reader.feed(last) == message
    assert reader.empty


@each_message
def test_what_follows_a_message_is_not_touched(message: Message) -> None:
    reader = MessageReader()
    assert read(reader, encode(message) + b"\x16\x03\x01 somebody else's") == (
        message,
        b"\x16\x03\x01 somebody else's",
    )
    assert reader.empty
    assert reader.need == 2


@each_message
def test_fields_of_later_versions_are_ignored(message: Message) -> None:
    fields = msgspec.msgpack.decode(encode(message)[2:])
    payload = msgspec.msgpack.encode([*fields, "new", 7])
    data = len(payload).to_bytes(2, "big") + payload
    assert read(MessageReader(), data) == (message, b"")


@each_message
def test_a_message_is_its_length_and_an_array_with_its_type_first(message: Message) -> None:
    data = encode(message)
    assert int.from_bytes(data[:2], "big") == len(data) - 2
    assert msgspec.msgpack.decode(data[2:])[0] == MESSAGES.index(message) + 1


def test_more_than_needed_is_a_defect_of_the_caller() -> None:
    with pytest.raises(ValueError, match="3 bytes were fed where 2 were needed"):
        MessageReader().feed(b"abc")


@pytest.mark.parametrize("length", [0, MAX_MESSAGE + 1, 65535])
def test_a_length_that_is_not_allowed_is_refused_before_the_payload(length: int) -> None:
    with pytest.raises(ProtocolError, match=f"a control message of {length} bytes: 1 to 4096"):
        MessageReader().feed(length.to_bytes(2, "big"))


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [99],
        ["Ping"],
        {"type": 5},
        5,
        [1, [b"short"]],
        [1, [KEY] * (KEYS_PER_TRUST + 1)],
        [2, [], "entry-point", "0", INSTANCE],
        [2, [1], "relay", "0", INSTANCE],
        [2, [1], "entry-point", "", INSTANCE],
        [2, [1], "entry-point", "g" * 65, INSTANCE],
        [2, [1], "entry-point", "0", INSTANCE[:15]],
        [3, 1, -1, 10.0],
        [3, 1, 1, 0.0],
        [3, 1, 1, float("nan")],
        [3, 1, 1, float("inf")],
        [4, "code", "x" * 1025],
        [8, KEY[:31], INSTANCE, True, 0],
        [8, KEY, INSTANCE, 1, 0],
    ],
)
def test_a_payload_that_is_no_message_is_a_protocol_error(fields: object) -> None:
    payload = msgspec.msgpack.encode(fields)
    with pytest.raises(ProtocolError, match="not a control message: "):
        read(MessageReader(), len(payload).to_bytes(2, "big") + payload)


def test_a_message_that_is_too_large_is_not_encoded() -> None:
    with pytest.raises(ValueError, match="Denied has 5010 bytes, over 4096"):
        encode(Denied("code", "x" * 5000))


@given(messages, st.data())
def test_every_message_survives_any_cut(message: Message, data: st.DataObject) -> None:
    reader, wire = MessageReader(), encode(message) + b"trailing"
    taken, result = 0, None
    while result is None:
        size = data.draw(st.integers(1, reader.need))
        result = reader.feed(wire[taken : taken + size])
        taken += size
    assert result == message
    assert wire[taken:] == b"trailing"


@given(st.binary(max_size=300))
def test_any_bytes_parse_or_are_a_protocol_error(noise: bytes) -> None:
    for data in (noise, len(noise).to_bytes(2, "big") + noise):
        try:
            rest: bytes = data
            reader = MessageReader()
            while rest:
                _, rest = read(reader, rest)
        except ProtocolError:
            pass


@given(messages, st.integers(0, 200), st.integers(0, 255))
def test_a_damaged_message_parses_or_is_a_protocol_error(
    message: Message, where: int, byte: int
) -> None:
    data = bytearray(encode(message))
    data[where % len(data)] = byte
    with contextlib.suppress(ProtocolError):
        read(MessageReader(), bytes(data))


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (100, [100]), (101, [100, 1])])
def test_trust_is_cut_into_messages(count: int, sizes: list[int]) -> None:
    keys = [number.to_bytes(32, "big") for number in range(count)]
    trusts = trust_messages(keys)
    assert [len(each.keys) for each in trusts] == sizes
    assert [key for each in trusts for key in each.keys] == keys


def test_the_largest_trust_fits_into_messages() -> None:
    trusts = trust_messages([number.to_bytes(32, "big") for number in range(MAX_PARTNERS)])
    assert all(len(encode(each)) <= MAX_MESSAGE + 2 for each in trusts)


def test_the_layout_is_drawn_the_same_in_the_docs() -> None:
    import common.wire

    assert_drawn_in_the_docs(common.wire)
