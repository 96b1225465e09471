"""Follows what a service answers to one request: interim heads, the head, the body, its end."""

from __future__ import annotations

from collections.abc import Callable

from common.errors import HttpError
from relay_server.http.body import Follower, Unchunked, follower
from relay_server.http.head import (
    MOST_RESPONSE_HEAD,
    RequestHead,
    ResponseHead,
    parse_response,
    write_response,
)

_END = b"\r\n\r\n"


class Answer:
    """The answer to ``request``, as far as it has come.

    Args:
        keep_alive: whether another request may follow on the visitor's connection after a head.
    """

    def __init__(self, request: RequestHead, keep_alive: Callable[[ResponseHead], bool]) -> None:
        self.begun = False
        """Whether anything of it has come."""
        self.head: ResponseHead | None = None
        """The final head (not 1xx, 101 aside), once it has come."""
        self.kept = False
        """Whether the visitor has been told that another request may follow."""
        self.surplus = False
        """Whether more came than was asked for."""
        self._request = request
        self._keep_alive = keep_alive
        self._partial = bytearray()  # an incomplete head
        self._searched = 0  # bytes of it in which its end is not
        self._body: Follower | None = None

    @property
    def switched(self) -> bool:
        """Whether HTTP is over, and what follows is another protocol's."""
        return self.head is not None and self.head.status == 101

    @property
    def done(self) -> bool:
        """Whether it is complete."""
        return self._body is not None and self._body.done

    @property
    def until_end(self) -> bool:
        """Whether it is complete when the service ends the connection."""
        return self.head is not None and self.head.body.kind == "end"

    def take(self, data: memoryview) -> list[bytes | memoryview]:
        """Take what has come and return what the visitor gets of it.

        Raises:
            HttpError: the service does not speak HTTP.
        """
        self.begun = True
        passed: list[bytes | memoryview] = []
        if self.head is None:
            self._partial += data
            passed = self._take_heads()
            if self._body is None and not self.switched:
                return passed
            data, self._partial = memoryview(self._partial), bytearray()
        if self.switched:
            return [*passed, data] if data else passed
        body = self._body
        assert body is not None  # noqa: S101 - the head is complete
        count = body.follow(data)
        self.surplus = count < len(data)
        if isinstance(body, Unchunked):
            return passed + body.take()
        return [*passed, data[:count]] if count else passed

    def _take_heads(self) -> list[bytes | memoryview]:
        passed: list[bytes | memoryview] = []
        partial = self._partial
        while self.head is None and (end := partial.find(_END, self._searched)) >= 0:
            head = bytes(partial[: end + 4])
            del partial[: end + 4]
            self._searched = 0
            passed += self._take_head(head)
        # Not again from the start: a head in single bytes would take the square of the time.
        self._searched = max(0, len(partial) - 3)
        if self.head is None and len(partial) > MOST_RESPONSE_HEAD:
            raise HttpError(502, "its head is too long")
        return passed

    def _take_head(self, data: bytes) -> list[bytes | memoryview]:
        request = self._request
        head = parse_response(data, request)
        if head.status == 101:
            protocols = [value.lower() for value in head.fields.values(b"upgrade")]
            if not request.upgrade or protocols != [b"websocket"]:
                raise HttpError(502, "it switches to a protocol that was not asked for")
            self.head = head
            return [write_response(head, keep_alive=True, upgrade=True)]
        if head.status < 200:  # HTTP/1.0 knows of none (RFC 9110, section 15.2)
            return [write_response(head, keep_alive=True)] if request.minor else []
        self.head = head
        unchunk = head.body.kind == "chunked" and not request.minor
        self._body = Unchunked() if unchunk else follower(head.body, request=False)
        self.kept = self._keep_alive(head)
        return [write_response(head, keep_alive=self.kept, minor=request.minor)]
