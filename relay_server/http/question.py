"""A request of one visitor, and what follows from it."""

from __future__ import annotations

from common.addresses import HostPort
from common.errors import HttpError
from relay_server.http import pages
from relay_server.http.body import follower
from relay_server.http.head import MOST_HEAD, ResponseHead, parse_request, write_request

Told = list[tuple[bytes, bytes]]
"""Names and values of fields that tell a service of a visitor."""


class Question:
    """One request.

    Args:
        head: as it was sent, with the empty line at its end.

    Raises:
        HttpError: it is not passed on.
    """

    def __init__(self, head: bytes) -> None:
        self.head = parse_request(head)
        self.body = follower(self.head.body, request=True)
        """Follows the body; ``done`` when all of it has been seen."""
        self.again = b""
        """What to say if the service gave up a kept connection before it answered; or nothing."""

    @property
    def host(self) -> str:
        """The host name that is meant, lower-case."""
        return self.head.host

    @property
    def repeatable(self) -> bool:
        """Whether asking twice does nothing twice (RFC 9110, section 9.2.1)."""
        return self.body.done and self.head.method in (b"GET", b"HEAD", b"OPTIONS")

    def keeps_alive(self, answer: ResponseHead | None = None) -> bool:
        """Whether another request may follow on the visitor's connection."""
        ends = answer is not None and answer.body.kind == "end"
        return self.head.keep_alive and self.body.done and not ends

    def for_service(self, told: Told, host_header: bytes) -> bytes:
        """Return the head that the service gets.

        Args:
            told: what it is told of the visitor's connection.
            host_header: the Host it is told; empty: the visitor's.
        """
        forwarded = [*told, (b"X-Forwarded-Host", self.head.authority)]
        return write_request(self.head, forwarded, host_header)

    def answer(self, page: pages.Page, *, keep_alive: bool) -> bytes:
        """Return the response that shows ``page``, in the form that the visitor wants."""
        accept = b",".join(self.head.fields.values(b"accept"))
        return pages.render(
            page,
            html=pages.wants_html(accept),
            head_only=self.head.method == b"HEAD",
            keep_alive=keep_alive,
        )


def head_end(data: bytes) -> int:
    """Return where the head that ``data`` begins with ends; 0: it is not complete.

    Raises:
        HttpError: none will come: it is too long, or no HTTP (browsers try TLS first).
    """
    if data and not 0x21 <= data[0] <= 0x7E:
        raise HttpError(400, "its first byte is none of HTTP's; for TLS there is another port")
    end = data.find(b"\r\n\r\n") + 4
    if end < 4 and len(data) < MOST_HEAD:
        return 0
    if not 4 <= end <= MOST_HEAD:
        raise HttpError(431, f"its head is longer than {MOST_HEAD} bytes")
    return end


def told_of(address: HostPort, entered_at: HostPort, scheme: str) -> Told:
    """Return what a service is told of a visitor's connection."""
    return [
        (b"X-Forwarded-For", address.host.encode()),
        (b"X-Forwarded-Proto", scheme.encode()),
        (b"X-Forwarded-Port", str(entered_at.port).encode()),
    ]
