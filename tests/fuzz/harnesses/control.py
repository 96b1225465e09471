"""Control messages: what a stranger says to the relay before it is known."""

from __future__ import annotations

from typing import Final

from common.errors import ProtocolError
from common.link_states import LinkState, State
from common.wire import (
    MAX_MESSAGE,
    Declined,
    Demand,
    Denied,
    Expose,
    Exposed,
    GoAway,
    Hello,
    Message,
    MessageReader,
    Paired,
    Ping,
    Pong,
    Ready,
    Trust,
    Unexposed,
    Visit,
    Welcome,
    encode,
)
from tests.fuzz.pieces import piece_size

EXAMPLES: Final[tuple[Message, ...]] = (
    Trust([bytes(32), bytes([1]) * 32]),
    Hello([1], "entry-point", "0", bytes(16), "x/1"),
    Hello([1, 2], "reverse-proxy", "home", bytes(16), "", "raw"),
    Welcome(1, 7, 10.0),
    Denied("unknown-key", "add it"),
    Ping(),
    Pong(),
    GoAway(),
    Paired(bytes(32), bytes(16), opener=True, backlog=3),
    Ready(),
    Expose(1, "tcp", "", 80, "10.0.0.0/8", raw=True, hold_s=1.5),
    Expose(2, "http", "app", 0, host_header="a:80"),
    Exposed(1, 80, "0.0.0.0:80"),
    Unexposed(1, "held", "by another"),
    Demand(4, 0),
    Visit(1, "192.0.2.7", 4711, "192.0.2.1", 80),
    Declined("unreachable", "nobody there"),
)
# The first byte: 1 lets the harness write the length, the rest is the size of pieces.
SEEDS: Final = (
    *(b"\x09" + encode(each)[2:] for each in EXAMPLES),
    b"\x02" + b"".join(map(encode, EXAMPLES[:3])),
    b"\x00" + encode(Ping()) + encode(Ready()) + b"rest",
    b"\x09\x92\x05" + b"\x91" * 1100 + b"\xc0",  # nested deeper than the decoder goes
)
WORDS: Final = (
    *(encode(each)[2:4] for each in EXAMPLES),
    b"\xc4\x20" + bytes(32),
    b"\xc4\x10" + bytes(16),
    b"\xcb\x7f\xf8" + bytes(6),
    b"\xcf" + b"\xff" * 8,
    b"\xabentry-point",
    b"\xadreverse-proxy",
    b"\xa9exposures",
    b"\xa8visitors",
)


MOST_CHECKED: Final = 4
"""Messages of one input that are looked at in full; all are read."""


def read(stream: bytes, most: int) -> tuple[list[Message], str, int]:
    """Read ``stream`` in pieces of at most ``most`` bytes: messages, the error, what is needed."""
    reader, messages, at = MessageReader(), list[Message](), 0
    while at < len(stream):
        piece = stream[at : at + min(reader.need, most)]
        at += len(piece)
        try:
            message = reader.feed(piece)
        except ProtocolError as error:
            return messages, str(error), 0
        assert 0 < reader.need <= MAX_MESSAGE
        if message is not None:
            assert reader.empty
            messages.append(message)
    return messages, "", reader.need


def check(data: bytes) -> None:
    if not data:
        return
    stream = data[1:]
    if data[0] & 1:
        stream = len(stream).to_bytes(2, "big") + stream
    result = read(stream, MAX_MESSAGE)
    assert read(stream, piece_size(data[0] >> 1, stream)) == result
    state = LinkState()
    for message in result[0][:MOST_CHECKED]:
        written = encode(message)
        assert read(written, MAX_MESSAGE) == ([message], "", 2)
        before = state.state
        try:
            state.advance(message)
        except ProtocolError:
            assert state.state is before
        assert before not in (State.CLOSED, State.HANDED_OVER) or state.state is before
