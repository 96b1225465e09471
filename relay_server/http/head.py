"""Heads of HTTP/1 messages: parsed strictly, judged, and written anew (RFC 9112, RFC 9110).

What two programs read differently is how requests are smuggled, so what could be read differently
is refused here and never passed on: a line that does not end in CRLF, a folded line, white space
before a colon, a control character, a length that is not a number or stands there twice, a length
beside a transfer coding, a coding other than ``chunked``, a host that is missing, twice, or not the
one in the target. What is passed on is written from the parsed fields, never copied whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from common.errors import HttpError

MOST_HEAD: Final = 16 * 1024
"""Bytes of a head; servers take 8 KiB a line or so."""
MOST_FIELDS: Final = 100
MOST_RESPONSE_HEAD: Final = 64 * 1024
"""Bytes of a head of a response: a service with many cookies is its owner's business."""

REMEMBERED_LINES: Final = 1024
"""Lines of heads that are remembered as fields: most come again and again."""
REMEMBERED_LINE: Final = 256
"""Bytes of the longest of them: 256 KiB in all."""

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_VALUE: Final = rb"(?:[\x21-\x7e\x80-\xff](?:[\t \x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?"
# Possessive (*+): white space tried again from every byte of it would take the square of the time.
_FIELD: Final = re.compile(rb"(" + _TOKEN + rb"+):[ \t]*+(" + _VALUE + rb")[ \t]*")
_REQUEST_LINE: Final = re.compile(rb"(" + _TOKEN + rb"{1,32}) ([\x21-\x7e]+) HTTP/1\.([01])")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t \x21-\x7e\x80-\xff]*)?")
_HOST: Final = re.compile(
    rb"([A-Za-z0-9_](?:[A-Za-z0-9._-]*)|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?"
)
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/?#]+)(.*)")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")

_HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade"}
)
"""Fields for the next hop only (RFC 9110, section 7.6.1); framing is written anew."""
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_PROTECTED: Final = _FRAMING | {b"host", b"cookie", b"authorization"}
"""Fields that ``Connection`` cannot declare to be for the next hop only, to have them dropped."""
_FORWARDED: Final = frozenset({b"forwarded", b"x-real-ip"})
_FORWARDED_PREFIX: Final = b"x-forwarded-"
"""What a visitor says of itself in these is not believed: they are set anew, or left out."""


class Field(NamedTuple):
    """One field.

    Args:
        name: lower-case.
        meant: the name where an underscore is taken for a hyphen.
        value: without white space around it.
        line: as it is passed on.
        to_service: whether it may be passed on in a request.
        to_visitor: whether it may be passed on in a response.
    """

    name: bytes
    meant: bytes
    value: bytes
    line: bytes
    to_service: bool
    to_visitor: bool


class Fields:
    """The fields of a head, in order."""

    __slots__ = ("_by_name", "_fields")

    def __init__(self) -> None:
        self._fields: list[Field] = []
        self._by_name: dict[bytes, list[bytes]] = {}

    def append(self, field: Field) -> None:
        """Add a field behind the others."""
        self._fields.append(field)
        self._by_name.setdefault(field.name, []).append(field.value)

    def __iter__(self) -> Iterator[Field]:
        return iter(self._fields)

    def values(self, name: bytes) -> Sequence[bytes]:
        """Return the values of all fields with this name (lower-case)."""
        return self._by_name.get(name, ())

    @property
    def connection(self) -> set[bytes]:
        """The options of the Connection fields, lower-case."""
        return {
            option.strip().lower()
            for value in self.values(b"connection")
            for option in value.split(b",")
        }

    @property
    def declared(self) -> frozenset[bytes]:
        """The fields that Connection declares to be for the next hop only, as far as it can."""
        if b"connection" not in self._by_name:
            return frozenset()
        return frozenset(self.connection - _PROTECTED)


@dataclass(frozen=True, slots=True)
class Body:
    """How a body is delimited (RFC 9112, section 6.3): by a length, chunks, or the end."""

    kind: Literal["length", "chunked", "end"]
    length: int = 0


NO_BODY: Final = Body("length", 0)


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request that may be passed on.

    Args:
        host: lower-case, without port and final dot.
        authority: the Host field as it was sent.
        target: in origin-form, or ``*``.
        minor: 1 or 0, of HTTP/1.
        upgrade: the visitor wants to speak WebSocket.
    """

    method: bytes
    target: bytes
    minor: int
    host: str
    authority: bytes
    fields: Fields
    body: Body
    keep_alive: bool
    upgrade: bool


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A response that may be passed on; of an interim one (1xx) another follows."""

    status: int
    line: bytes
    fields: Fields
    body: Body
    keep_alive: bool


def parse_request(head: bytes) -> RequestHead:
    """Return what ``head``, which ends with an empty line, asks for.

    Raises:
        HttpError: it is not passed on; with the status of the answer.
    """
    first, fields = _lines(head, 400)
    values = fields.values
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise HttpError(400, "the first line is no request line of HTTP/1")
    method, target, minor = line[1], line[2], int(line[3])
    if method in (b"CONNECT", b"TRACE"):
        raise HttpError(405, f"{method.decode()} is not served here")
    hosts = values(b"host")
    if len(hosts) != 1:
        raise HttpError(400, f"{len(hosts)} Host fields: one is needed")
    host = _host(hosts[0])
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:
        if absolute[1].lower() != hosts[0].lower():
            raise HttpError(400, "the target names another host than the Host field")
        target = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
    if b"#" in target or not (target.startswith(b"/") or (target, method) == (b"*", b"OPTIONS")):
        raise HttpError(400, "the target of the request has no allowed form")
    body = _request_body(fields, minor)
    if any(value.lower() != b"100-continue" for value in values(b"expect")):
        raise HttpError(417, "only 100-continue can be expected")
    return RequestHead(
        method,
        target,
        minor,
        host,
        hosts[0],
        fields,
        body,
        keep_alive=minor == 1 and b"close" not in fields.connection,
        upgrade=minor == 1
        and method == b"GET"
        and body == NO_BODY
        and b"upgrade" in fields.connection
        and [value.lower() for value in values(b"upgrade")] == [b"websocket"],
    )


def parse_response(head: bytes, request: RequestHead) -> ResponseHead:
    """Return what the service answers to ``request`` with ``head``, which ends with an empty line.

    Raises:
        HttpError: it is not passed on.
    """
    first, fields = _lines(head, 502)
    line = _STATUS_LINE.fullmatch(first)
    if line is None:
        raise HttpError(502, "the first line is no status line of HTTP/1")
    status = int(line[2])
    lengths = fields.values(b"content-length")
    codings = [value.lower() for value in fields.values(b"transfer-encoding")]
    if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
        raise HttpError(502, "the length of the response is not one number")
    if codings and (codings != [b"chunked"] or lengths or line[1] == b"0"):
        raise HttpError(502, "the response says in two ways, or in none known, where it ends")
    if request.method == b"HEAD" or status < 200 or status in (204, 304):
        body = NO_BODY
    elif codings:
        body = Body("chunked")
    elif lengths:
        body = Body("length", int(lengths[0]))
    else:
        body = Body("end")
    keep_alive = line[1] == b"1" and b"close" not in fields.connection and body.kind != "end"
    return ResponseHead(status, first, fields, body, keep_alive)


def write_request(
    head: RequestHead, forwarded: Iterable[tuple[bytes, bytes]], host: bytes
) -> bytes:
    """Return the head that the service gets.

    Args:
        forwarded: the fields that tell of the visitor; what it sent in their place is dropped.
        host: the Host field; empty to keep what the visitor sent.
    """
    lines = [b"%b %b HTTP/1.%d" % (head.method, head.target, head.minor)]
    lines.append(b"Host: " + (host or head.authority))
    declared = head.fields.declared
    # CGI and WSGI take an underscore for a hyphen, so a name counts as what it means there.
    lines += [
        each.line
        for each in head.fields
        if each.to_service and not (each.name in declared or each.meant in declared)
    ]
    lines += [b"%b: %b" % field for field in forwarded]
    if head.body.kind == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
    elif head.body.length or head.fields.values(b"content-length"):
        lines.append(b"Content-Length: %d" % head.body.length)
    if head.upgrade:
        lines.append(b"Connection: Upgrade\r\nUpgrade: websocket")
    elif head.minor == 0:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n"


def write_response(
    head: ResponseHead, *, keep_alive: bool, upgrade: bool = False, minor: int = 1
) -> bytes:
    """Return the head that the visitor gets.

    Args:
        minor: of the visitor's HTTP/1; 0 knows of no chunks (RFC 9112, section 6.1).
    """
    dropped = head.fields.declared
    if not minor:
        dropped = dropped | {b"transfer-encoding"}
    if head.status < 200 or head.status == 204:  # RFC 9110, section 8.6; RFC 9112, section 6.1
        dropped = dropped | _FRAMING
    lines = [b"HTTP/1.1" + head.line[8:]]
    lines += [each.line for each in head.fields if each.to_visitor and each.name not in dropped]
    if upgrade:
        lines.append(b"Connection: Upgrade\r\nUpgrade: websocket")
    elif not keep_alive and head.status >= 200:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _lines(head: bytes, status: int) -> tuple[bytes, Fields]:
    """Split a head that ends with an empty line; every byte of it is accounted for."""
    if not head.endswith(b"\r\n\r\n"):
        raise HttpError(status, "the head does not end")
    first, *rest = head[:-4].split(b"\r\n")
    if len(rest) > MOST_FIELDS:
        raise HttpError(431 if status == 400 else status, f"more than {MOST_FIELDS} fields")
    fields = Fields()
    for line in rest:
        field = _known_field(line) if len(line) <= REMEMBERED_LINE else _field(line)
        if field is None:
            raise HttpError(status, "a line of the head is no field")
        fields.append(field)
    return first, fields


def _field(line: bytes) -> Field | None:
    match = _FIELD.fullmatch(line)
    if match is None:
        return None
    name, value = match[1].lower(), match[2]
    meant = name.replace(b"_", b"-")
    kept = not {name, meant} & (_HOP_BY_HOP | _FRAMING | _FORWARDED | {b"host"})
    return Field(
        name,
        meant,
        value,
        b"%b: %b" % (match[1], value),
        to_service=kept and not meant.startswith(_FORWARDED_PREFIX),
        to_visitor=name not in _HOP_BY_HOP,
    )


# A visitor sends most of its lines with every request, and so do all who use its browser.
_known_field = lru_cache(maxsize=REMEMBERED_LINES)(_field)


def _host(value: bytes) -> str:
    match = _HOST.fullmatch(value)
    if match is None or len(match[1]) > 253 or b".." in match[1]:
        raise HttpError(400, "the Host field is no host")
    if match[2] and int(match[2]) > 65535:
        raise HttpError(400, "the Host field has no such port")
    return match[1].decode("ascii").lower().removesuffix(".")


def _request_body(fields: Fields, minor: int) -> Body:
    lengths = fields.values(b"content-length")
    codings = fields.values(b"transfer-encoding")
    if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
        raise HttpError(400, "the length of the request is not one number")
    if not codings:
        return Body("length", int(lengths[0])) if lengths else NO_BODY
    if lengths or minor == 0:
        raise HttpError(400, "the request says in two ways where it ends")
    if len(codings) > 1 or codings[0].lower() != b"chunked":
        raise HttpError(501, "the only transfer coding that is known here is chunked")
    return Body("chunked")
