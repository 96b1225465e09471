"""Follows what a service answers to one request: interim heads, the head, the body, its end."""

from __future__ import annotations

from collections.abc import Callable

from common.errors import HttpError
from relay_server.http.body import Follower, follower
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
        self.surplus = False
        """Whether more came than was asked for."""
        self._request = request
        self._keep_alive = keep_alive
        self._partial = b""  # an incomplete head
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
            data, self._partial = memoryview(self._partial), b""
        if self.switched:
            return [*passed, data] if data else passed
        body = self._body
        if body is None:  # the head is not complete
            self._partial = bytes(data)
            return passed
        count = body.follow(data)
        self.surplus = count < len(data)
        return [*passed, data[:count]] if count else passed

    def _take_heads(self) -> list[bytes | memoryview]:
        passed: list[bytes | memoryview] = []
        while self.head is None and (end := self._partial.find(_END)) >= 0:
            head, self._partial = self._partial[: end + 4], self._partial[end + 4 :]
            passed += self._take_head(head)
        if self.head is None and len(self._partial) > MOST_RESPONSE_HEAD:
            raise HttpError(502, "its head is too long")
        return passed

    def _take_head(self, data: bytes) -> list[bytes | memoryview]:
        head = parse_response(data, self._request)
        if head.status == 101:
            if not self._request.upgrade:
                raise HttpError(502, "it switches to a protocol that was not asked for")
            self.head = head
            return [write_response(head, keep_alive=True, upgrade=True)]
        if head.status < 200:  # HTTP/1.0 knows of none (RFC 9110, section 15.2)
            return [write_response(head, keep_alive=True)] if self._request.minor else []
        self.head = head
        self._body = follower(head.body, request=False)
        return [write_response(head, keep_alive=self._keep_alive(head))]
