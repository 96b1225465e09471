"""Control messages of a link: what a client and the relay say to each other before hand-over.

The wire layout, inside the outer TLS 1.3 session::

    +--------------+---------------------------+
    | length (u16) | MessagePack array         |    length: 1 to 4096 bytes, big-endian
    +--------------+---------------------------+
                     [type, field, field, ...]

The codec is sans-IO. :class:`MessageReader` says how many bytes it needs next and never takes
one more: when ``READY`` has been read, the very next byte on the socket belongs to somebody else.

Fields may be appended to a message in later versions; a reader ignores those it does not know.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias, get_args

import msgspec

from common.errors import ProtocolError

ALPN: Final = "tcp-relay/1"
"""ALPN protocol id of a link (RFC 7301)."""

VERSION: Final = 1
"""The version of the control messages and channel frames that this code speaks."""

MAX_MESSAGE: Final = 4096
"""Bytes of payload of one message: a stranger's memory cost before login is bounded by it."""

KEYS_PER_TRUST: Final = 100
"""Keys in one TRUST message: 100 x 34 bytes fit into ``MAX_MESSAGE``."""

MAX_PARTNERS: Final = 4096
"""Keys a client may name over all its TRUST messages; 128 KiB at the relay."""

MAX_GROUP: Final = 64
"""Characters of a group's name."""

MAX_SENTENCE: Final = 1024
"""Characters (and, as we send it, bytes) of a sentence for a person."""

Role: TypeAlias = Literal["entry-point", "reverse-proxy"]
"""What a client is: entry-points are openers, reverse-proxies are acceptors."""

ROLES: Final[tuple[str, ...]] = get_args(Role)

Purpose: TypeAlias = Literal["pair", "exposures", "visitors", "raw"]
"""What a link is for; all but ``pair`` are for a reverse-proxy's exposures.

* ``pair``: it waits for a partner, and its raw socket is handed over to the pair.
* ``exposures``: the reverse-proxy asks for public ports and host names, and holds them with it.
* ``visitors``: a channel whose opener is the relay: frames follow WELCOME in the same TLS session.
* ``raw``: it waits for one visitor, whose bytes then go over the raw socket as they are.
"""

Kind: TypeAlias = Literal["tcp", "udp", "http", "https"]
"""What is exposed: a port (tcp, udp) or a host name (http; https is passed through by SNI)."""

Key = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Instance = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Word = Annotated[str, msgspec.Meta(max_length=64)]
Sentence = Annotated[str, msgspec.Meta(max_length=MAX_SENTENCE)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
HostName = Annotated[str, msgspec.Meta(max_length=255)]
MAX_HOLD_S: Final = 300.0
"""Seconds that an exposure may ask its visitors to wait for its reverse-proxy."""
MAX_EXPOSURES: Final = 4096
"""Exposures of one reverse-proxy at one relay: a range of ports is one for each."""


class Trust(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Client to relay, before HELLO, as often as needed: partner keys that the client accepts."""

    keys: Annotated[list[Key], msgspec.Meta(max_length=KEYS_PER_TRUST)]


class Hello(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Client to relay: who is there. Ends the client's part of the login.

    ``instance`` is 16 random bytes per process: machines that share one key are told apart by it.
    """

    versions: Annotated[list[int], msgspec.Meta(min_length=1, max_length=16)]
    role: Role
    group: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_GROUP)]
    instance: Instance
    software: Word = ""
    purpose: Purpose = "pair"


class Welcome(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Relay to client: the link is pending. A client pings every ``heartbeat_s`` seconds."""

    version: int
    link_id: Count
    heartbeat_s: Annotated[float, msgspec.Meta(gt=0, le=3600)]


class Denied(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """Relay to client: the link is refused; ``code`` is stable, ``detail`` is for a person."""

    code: Word
    detail: Sentence


class Ping(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """Client to relay, while pending."""


class Pong(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """Relay to client: the answer to a PING."""


class GoAway(msgspec.Struct, array_like=True, frozen=True, tag=7):
    """Relay to client: the relay is about to end; finish what runs, start nothing new."""


class Paired(msgspec.Struct, array_like=True, frozen=True, tag=8):
    """Relay to client, its last outer byte: the partner's key, and what the client is to it.

    ``backlog`` says how many links of the other side still wait for one of the client's.
    """

    partner: Key
    instance: Instance
    opener: bool
    backlog: Count


class Ready(msgspec.Struct, array_like=True, frozen=True, tag=9):
    """Client to relay, its last outer byte: from here on the raw socket belongs to the pair."""


class Expose(msgspec.Struct, array_like=True, frozen=True, tag=10):
    """Reverse-proxy to relay: open this to the public; answered by EXPOSED or UNEXPOSED.

    Args:
        id: the reverse-proxy's name for it, once per process; VISIT repeats it.
        host: the public host name of http and https, ``name`` (below the relay's domain),
            ``name.example.org`` or ``*.example.org``; empty for tcp and udp.
        port: the public port of tcp and udp, 0 for any free one; 0 for host names.
        source: the only network (CIDR) that is admitted; empty for all.
        raw: bytes go through unencrypted by us: see purpose ``raw``. tcp and https only.
        hold_s: seconds a visitor waits while the reverse-proxy is away.
        host_header: of http: what the service is told as Host; empty: what the visitor sent.
    """

    id: Count
    kind: Kind
    host: HostName
    port: Port
    source: Word = ""
    raw: bool = False
    hold_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_HOLD_S)] = 0.0
    host_header: HostName = ""


class Exposed(msgspec.Struct, array_like=True, frozen=True, tag=11):
    """Relay to reverse-proxy: it is public now.

    ``port`` is the public port (0 for host names), to be asked for again after a reconnect;
    ``public`` is what a person needs to know: an address, or URLs.
    """

    id: Count
    port: Port
    public: Sentence


class Unexposed(msgspec.Struct, array_like=True, frozen=True, tag=12):
    """Relay to reverse-proxy: it is not public, or no longer, and why."""

    id: Count
    code: Word
    detail: Sentence


class Demand(msgspec.Struct, array_like=True, frozen=True, tag=13):
    """Relay to reverse-proxy: how many visitors wait for a channel, and for a raw link, now."""

    visitors: Count
    raw: Count


class Visit(msgspec.Struct, array_like=True, frozen=True, tag=14):
    """What the relay tells of a visitor: whom it wants, where it comes from, where it came in.

    On a raw link it is the relay's last outer byte; on a channel it is the payload of a VISIT
    frame.
    """

    exposure: Count
    visitor_host: Word
    visitor_port: Port
    public_host: Word
    public_port: Port


class Declined(msgspec.Struct, array_like=True, frozen=True, tag=15):
    """Reverse-proxy to relay, on a raw link, instead of READY: the visitor is not served."""

    code: Word
    detail: Sentence


Message: TypeAlias = (
    Trust
    | Hello
    | Welcome
    | Denied
    | Ping
    | Pong
    | GoAway
    | Paired
    | Ready
    | Expose
    | Exposed
    | Unexposed
    | Demand
    | Visit
    | Declined
)


def sentence(text: str) -> str:
    """Return ``text`` cut to what fits into a ``Sentence``: a path or a list of names may not."""
    data = text.encode("utf-8", "replace")
    if len(data) <= MAX_SENTENCE:
        return text
    return data[: MAX_SENTENCE - 3].decode("utf-8", "ignore") + "\u2026"


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """Return the message with its length prefix.

    Raises:
        ValueError: the message is longer than ``MAX_MESSAGE``; the caller made it too large.
    """
    payload = _encoder.encode(message)
    if len(payload) > MAX_MESSAGE:
        raise ValueError(f"{type(message).__name__} has {len(payload)} bytes, over {MAX_MESSAGE}")
    return len(payload).to_bytes(2, "big") + payload


class MessageReader:
    """Turns bytes into messages and never takes a byte beyond the message it is in.

    Read at most :attr:`need` bytes, hand them to :meth:`feed`, repeat.
    """

    __slots__ = ("_buffer", "_length")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._length = 0  # of the payload; 0 while the prefix is being read

    @property
    def need(self) -> int:
        """How many bytes complete the part being read; at least 1."""
        return (self._length or 2) - len(self._buffer)

    @property
    def empty(self) -> bool:
        """Whether the reader stands between two messages."""
        return not self._length and not self._buffer

    def feed(self, data: bytes | memoryview) -> Message | None:
        """Take at most :attr:`need` bytes; return the message that they complete, if any.

        Raises:
            ProtocolError: the length is 0 or over ``MAX_MESSAGE``, or the payload is no message.
            ValueError: more than :attr:`need` bytes were handed in; a defect of the caller.
        """
        if len(data) > self.need:
            raise ValueError(f"{len(data)} bytes were fed where {self.need} were needed")
        self._buffer += data
        if self.need:
            return None
        if not self._length:
            self._length = int.from_bytes(self._buffer, "big")
            self._buffer.clear()
            if not 0 < self._length <= MAX_MESSAGE:
                raise ProtocolError(
                    f"a control message of {self._length} bytes: 1 to {MAX_MESSAGE} are allowed; "
                    "is the peer of another version?"
                )
            return None
        payload = bytes(self._buffer)
        self._buffer.clear()
        self._length = 0
        try:
            return _decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"not a control message: {error}") from None


def trust_messages(keys: list[bytes]) -> list[Trust]:
    """Return ``keys`` (32 bytes each) as the TRUST messages that carry them."""
    return [
        Trust(keys[start : start + KEYS_PER_TRUST]) for start in range(0, len(keys), KEYS_PER_TRUST)
    ]
