"""Channel frames: what an opener and an acceptor say to each other inside the inner TLS session.

The wire layout::

    +------+--------------+-----------+
    | type | length (u24) | payload   |    big-endian; DATA up to 2**24 - 1 bytes, others 4096
    +------+--------------+-----------+

    type      from      payload             meaning
    1 OPEN    opener    MessagePack Open    a stream begins; DATA may follow at once
    2 DATA    both      bytes               the stream's bytes, in order
    3 FIN     both      none                half-close: the sender has no more bytes
    4 RESET   both      none                the stream is aborted; the channel ends with it
    5 REFUSED acceptor  MessagePack Refused the stream is not served; counts as the acceptor's FIN
    6 PING    both      none                answer with PONG
    7 PONG    both      none                the answer
    8 GOAWAY  acceptor  none                start no further stream on this channel
    9 DONE    acceptor  none                all of the stream has been handled: idle again
    10 VISIT    relay   MessagePack Visit   as OPEN, for a visitor of an exposure
    11 FLOW     opener  MessagePack Flow    a source of datagrams has appeared
    12 DATAGRAM both    flow (u32), bytes   one datagram of a flow, whole
    13 FORGET   both    flow (u32)          the flow is over; its number is not used again

A stream of protocol ``udp`` carries FLOW, DATAGRAM and FORGET instead of DATA.

A channel carries one stream at a time. When both sides have sent FIN (or REFUSED) the acceptor,
having delivered all that came before the opener's FIN, says DONE: the channel is idle again. An
opener that did not wait for it would queue the next stream behind a destination that stalls. The
codec is sans-IO: bytes in, frames out; DATA is passed through without a copy.
"""

from __future__ import annotations

import struct
from typing import Annotated, Final, Literal, TypeAlias, TypeVar

import msgspec

from common.errors import ProtocolError
from common.wire import MAX_GROUP, Port, Sentence, Visit, Word, sentence

INNER_ALPN: Final = "tcp-relay-inner/1"
"""ALPN protocol id of the session between two partners (RFC 7301)."""

OPEN: Final = 1
DATA: Final = 2
FIN: Final = 3
RESET: Final = 4
REFUSED: Final = 5
PING: Final = 6
PONG: Final = 7
GOAWAY: Final = 8
DONE: Final = 9
VISIT: Final = 10
FLOW: Final = 11
DATAGRAM: Final = 12
FORGET: Final = 13

NAMES: Final = {
    OPEN: "OPEN",
    DATA: "DATA",
    FIN: "FIN",
    RESET: "RESET",
    REFUSED: "REFUSED",
    PING: "PING",
    PONG: "PONG",
    GOAWAY: "GOAWAY",
    DONE: "DONE",
    VISIT: "VISIT",
    FLOW: "FLOW",
    DATAGRAM: "DATAGRAM",
    FORGET: "FORGET",
}

HEADER: Final = struct.Struct(">I")
HEADER_SIZE: Final = HEADER.size
MAX_DATA: Final = 2**24 - 1
"""Bytes of one DATA frame; nobody buffers a frame, so this is the field's width and no more."""
MAX_CONTROL: Final = 4096
"""Bytes of payload of any other frame but DATAGRAM; it is buffered whole."""
MAX_DATAGRAM: Final = 65507
"""Bytes of one UDP datagram over IPv4: 65,535 less the headers of IP and UDP (RFC 768)."""
FLOW_ID: Final = struct.Struct(">I")

_LIMITS: Final = {
    OPEN: MAX_CONTROL,
    REFUSED: MAX_CONTROL,
    VISIT: MAX_CONTROL,
    FLOW: MAX_CONTROL,
    DATAGRAM: FLOW_ID.size + MAX_DATAGRAM,
    FORGET: FLOW_ID.size,
}
"""The largest payload of each frame that has one, DATA aside."""

Protocol: TypeAlias = Literal["tcp", "udp"]

Inform: TypeAlias = Literal["", "proxy-v1", "proxy-v2", "loopback"]
"""How a destination is told who its client is: not, by PROXY protocol, by a loopback address."""


class Open(msgspec.Struct, array_like=True, frozen=True):
    """What the opener asks for: the destination, for whom, and in which group.

    ``host`` is an address or a name that the acceptor resolves. The group is repeated here, where
    the relay cannot change it: a relay that joins links of two groups is found out. ``listen_host``
    and ``listen_port`` are where the source came in, for destinations that want to be told.
    """

    group: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_GROUP)]
    protocol: Protocol
    host: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    source_host: Word
    source_port: Port
    inform: Inform = ""
    listen_host: Word = ""
    listen_port: Port = 0


class Flow(msgspec.Struct, array_like=True, frozen=True):
    """A source of datagrams, by its number: the opener counts from 1 and uses none twice."""

    id: Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
    source_host: Word
    source_port: Port


class Refused(msgspec.Struct, array_like=True, frozen=True):
    """Why a stream is not served; ``code`` is stable, ``detail`` is for a person."""

    code: Word
    detail: Sentence


_Message = TypeVar("_Message")

_encoder = msgspec.msgpack.Encoder()
_open_decoder = msgspec.msgpack.Decoder(Open)
_refused_decoder = msgspec.msgpack.Decoder(Refused)
_visit_decoder = msgspec.msgpack.Decoder(Visit)
_flow_decoder = msgspec.msgpack.Decoder(Flow)


def header(kind: int, length: int) -> bytes:
    """Return the four bytes that go before a payload of ``length`` bytes."""
    return HEADER.pack(kind << 24 | length)


def encode(kind: int, payload: bytes = b"") -> bytes:
    """Return one whole frame."""
    return HEADER.pack(kind << 24 | len(payload)) + payload


def encode_open(message: Open) -> bytes:
    """Return the OPEN frame."""
    return encode(OPEN, _encoder.encode(message))


def encode_refused(message: Refused) -> bytes:
    """Return the REFUSED frame; a detail that is too long is cut."""
    cut = Refused(message.code, sentence(message.detail))
    return encode(REFUSED, _encoder.encode(cut))


def decode_open(payload: bytes) -> Open:
    """Return what an OPEN frame asks for.

    Raises:
        ProtocolError: the payload is not an ``Open``.
    """
    return _decode(_open_decoder, payload, "an OPEN")


def decode_refused(payload: bytes) -> Refused:
    """Return what a REFUSED frame says.

    Raises:
        ProtocolError: the payload is not a ``Refused``.
    """
    return _decode(_refused_decoder, payload, "a REFUSED")


def _decode(decoder: msgspec.msgpack.Decoder[_Message], payload: bytes, kind: str) -> _Message:
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"not {kind} frame: {error}") from None


def encode_visit(message: Visit) -> bytes:
    """Return the VISIT frame."""
    return encode(VISIT, _encoder.encode(message))


def encode_flow(message: Flow) -> bytes:
    """Return the FLOW frame."""
    return encode(FLOW, _encoder.encode(message))


def encode_datagram(flow: int, data: bytes | memoryview) -> bytes:
    """Return the DATAGRAM frame with ``data`` (at most ``MAX_DATAGRAM`` bytes, or none)."""
    length = FLOW_ID.size + len(data)
    return b"".join((HEADER.pack(DATAGRAM << 24 | length), FLOW_ID.pack(flow), data))


def encode_forget(flow: int) -> bytes:
    """Return the FORGET frame."""
    return encode(FORGET, FLOW_ID.pack(flow))


def decode_visit(payload: bytes) -> Visit:
    """Return what a VISIT frame tells.

    Raises:
        ProtocolError: the payload is not a ``Visit``.
    """
    return _decode(_visit_decoder, payload, "a VISIT")


def decode_flow(payload: bytes) -> Flow:
    """Return what a FLOW frame tells.

    Raises:
        ProtocolError: the payload is not a ``Flow``.
    """
    return _decode(_flow_decoder, payload, "a FLOW")


def flow_id(payload: bytes) -> int:
    """Return the flow's number at the start of a DATAGRAM or FORGET frame.

    Raises:
        ProtocolError: the payload is too short, or the number is 0.
    """
    if len(payload) < FLOW_ID.size:
        raise ProtocolError(f"a flow's number of {len(payload)} bytes: 4 are needed")
    (number,) = FLOW_ID.unpack_from(payload)
    if not number:
        raise ProtocolError("flow 0 is not allowed")
    return int(number)


def not_allowed(kind: int, where: str) -> ProtocolError:
    """Return the error for a frame that came at the wrong time: ``where`` says when that is."""
    return ProtocolError(f"{NAMES[kind]} is not allowed {where}")


class FrameReader:
    """Splits what a channel delivers into frames, whatever pieces it comes in.

    Usage: ``kind, payload, position = reader.next(view, position)`` until ``kind`` is 0, which
    means that all of ``view`` has been taken. DATA comes as slices of ``view``, valid only as long
    as ``view`` is; a DATA frame may come in several slices. Other payloads come whole.
    """

    __slots__ = ("_head", "_kind", "_left", "_payload")

    def __init__(self) -> None:
        self._head = b""  # an incomplete header
        self._kind = 0  # of the frame whose payload is being read
        self._left = 0  # bytes of it still to come
        self._payload = b""  # of an incomplete control frame

    @property
    def between_frames(self) -> bool:
        """Whether no frame is half read."""
        return not self._left and not self._head

    def next(self, view: memoryview, position: int) -> tuple[int, memoryview | bytes, int]:
        """Return the next frame or slice of DATA at ``position``, and the position after it.

        Raises:
            ProtocolError: the frame's type is unknown, or its length is not allowed.
        """
        end = len(view)
        if not self._left:
            start = position
            position += HEADER_SIZE - len(self._head)
            if position > end:
                self._head += bytes(view[start:end])
                return 0, b"", end
            if self._head:
                (word,) = HEADER.unpack(self._head + bytes(view[start:position]))
                self._head = b""
            else:
                (word,) = HEADER.unpack_from(view, start)
            kind, length = word >> 24, word & 0xFFFFFF
            if kind != DATA and (
                kind not in NAMES
                or length > _LIMITS.get(kind, 0)
                or (not length and kind in _LIMITS)
            ):
                name = NAMES.get(kind, f"type {kind}")
                raise ProtocolError(f"a frame of {name} with {length} bytes is not allowed")
            if not length:
                if kind == DATA:
                    raise ProtocolError("a DATA frame without data is not allowed")
                return kind, b"", position
            self._kind, self._left = kind, length
        if position == end:
            return 0, b"", end
        stop = min(end, position + self._left)
        self._left -= stop - position
        if self._kind == DATA:
            return DATA, view[position:stop], stop
        self._payload += bytes(view[position:stop])
        if self._left:
            return 0, b"", end
        payload, self._payload = self._payload, b""
        return self._kind, payload, stop

    def put_back(self, count: int) -> None:
        """Undo the taking of the last ``count`` bytes of a DATA slice; they are fed again."""
        self._kind = DATA
        self._left += count
