"""Bodies of HTTP/1 messages: where they end (RFC 9112, sections 6 and 7). Bytes pass unchanged.

A chunked body is followed byte by byte of its framing, so what is passed on is exactly what was
understood. In requests it is stricter than the RFC: no chunk extensions and no trailers, which
nobody sends and programs read differently.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from common.errors import HttpError
from relay_server.http.head import Body

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_SIZE_WITH_EXTENSION: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e]*)?\r\n")
# None of framing, which some would believe even there (RFC 9110, section 6.5.1).
_TRAILER: Final = re.compile(
    rb"(?!(?i:content-length|transfer-encoding):)"
    rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n"
)
_MOST_LINE: Final = 1024
_MOST_TRAILERS: Final = 8 * 1024


class Follower(Protocol):
    """Follows one body."""

    done: bool
    """Whether all of it has been seen."""

    def follow(self, data: memoryview) -> int:
        """Return how many bytes of ``data`` belong to the body.

        Raises:
            HttpError: they are no body.
        """


def follower(body: Body, *, request: bool) -> Follower:
    """Return what follows a body that is delimited like this."""
    if body.kind == "chunked":
        return Chunks(request=request)
    return Length(body.length) if body.kind == "length" else UntilEnd()


class Length:
    """A body of so many bytes."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = not length

    def follow(self, data: memoryview) -> int:
        """Return how many bytes of ``data`` belong to the body."""
        count = min(len(data), self._left)
        self._left -= count
        self.done = not self._left
        return count


class UntilEnd:
    """A body that ends with the connection."""

    done = False

    def follow(self, data: memoryview) -> int:
        """Return how many bytes of ``data`` belong to the body: all."""
        return len(data)


class Chunks:
    """A chunked body, from the first size to the empty line at the end."""

    def __init__(self, *, request: bool) -> None:
        self.done = False
        self._request = request
        self._size = _SIZE if request else _SIZE_WITH_EXTENSION
        self._left = 0  # bytes of the chunk, its CRLF included, still to come
        self._line = b""  # a size or trailer line that has begun
        self._last = False  # the chunk of size 0 has been seen
        self._trailers = 0

    def follow(self, data: memoryview) -> int:
        """Return how many bytes of ``data`` belong to the body.

        Raises:
            HttpError: the framing is not what it must be.
        """
        at, end = 0, len(data)
        while at < end and not self.done:
            if self._left > 2:
                step = min(self._left - 2, end - at)
                self._content(data[at : at + step])
                self._left -= step
                at += step
            elif self._left:
                if data[at] != b"\r\n"[2 - self._left]:
                    raise self._error("a chunk does not end where it should")
                self._left -= 1
                at += 1
            else:
                at = self._read_line(data, at)
        return at

    def _content(self, piece: memoryview) -> None:
        """Take note of what a chunk carries; its framing is all that matters here."""

    def _read_line(self, data: memoryview, at: int) -> int:
        """Go on with a line; return the position behind what was taken of it."""
        piece = bytes(data[at : at + _MOST_LINE])
        newline = piece.find(b"\n")
        taken = len(piece) if newline < 0 else newline + 1
        self._line += piece[:taken]
        if len(self._line) > _MOST_LINE:
            raise self._error("a line of a chunk is too long")
        if newline >= 0:
            line, self._line = self._line, b""
            self._take_line(line)
        return at + taken

    def _take_line(self, line: bytes) -> None:
        if not self._last:
            size = self._size.fullmatch(line)
            if size is None:
                raise self._error("the size of a chunk is no number")
            count = int(size[1], 16)
            self._last = not count
            self._left = count + 2 if count else 0
        elif line == b"\r\n":
            self.done = True
        else:
            self._trailers += len(line)
            if self._request or self._trailers > _MOST_TRAILERS or not _TRAILER.fullmatch(line):
                raise self._error("trailers are not passed on")

    def _error(self, reason: str) -> HttpError:
        return HttpError(400 if self._request else 502, reason)


class Unchunked(Chunks):
    """A chunked body of a response whose content is wanted without its chunks."""

    def __init__(self) -> None:
        super().__init__(request=False)
        self._pieces: list[bytes | memoryview] = []

    def take(self) -> list[bytes | memoryview]:
        """Return the content of what has been followed since the last call."""
        taken, self._pieces = self._pieces, []
        return taken

    def _content(self, piece: memoryview) -> None:
        self._pieces.append(piece)
