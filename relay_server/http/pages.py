"""The pages that the relay answers with when a service cannot: plain, pretty, self-contained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:17px/1.5 system-ui,sans-serif;margin:0;min-height:100vh;display:grid;"
    "place-items:center;background:Canvas;color:CanvasText}"
    "main{max-width:34rem;padding:2rem}"
    "h1{font-size:1.6rem;margin:0 0 .5rem}"
    "b{font-size:4rem;font-weight:200;line-height:1;display:block;opacity:.45}"
    "p{margin:.5rem 0}small{opacity:.65}code{font-size:.95em}"
)
_PHRASES: Final = {  # RFC 9110, section 15
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    417: "Expectation Failed",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
}
_SECURITY: Final = (
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options: nosniff",
    "Referrer-Policy: no-referrer",
    "Cache-Control: no-store",
)


@dataclass(frozen=True, slots=True)
class Page:
    """What is said about a problem.

    Args:
        title: what has happened, in a few words.
        text: a sentence for the visitor.
        hint: a sentence for whoever runs the service.
    """

    status: int
    title: str
    text: str
    hint: str = ""


def unknown_host(host: str) -> Page:
    """There is no such host name."""
    return Page(
        404,
        "Nothing is published here",
        f"No service is published under {host or 'this name'}.",
        "Owner: start reverse-proxy with --http or --https and this name.",
    )


def offline(host: str) -> Page:
    """The reverse-proxy is away."""
    return Page(
        503,
        "The service is offline",
        f"{host} is known here, but the machine behind it is not connected. Try again later.",
        "Owner: is reverse-proxy running, and can it reach the relay?",
    )


def busy(host: str) -> Page:
    """Too many visitors."""
    return Page(503, "The service is busy", f"{host} has too many visitors. Try again soon.")


def bad_gateway(host: str, reason: str) -> Page:
    """The service does not answer as it should."""
    return Page(
        502,
        "The service does not answer",
        f"The machine behind {host} is connected, but its service could not be used.",
        f"Owner: {reason}; the log of reverse-proxy says more.",
    )


def refused(status: int, reason: str) -> Page:
    """A request that is not passed on."""
    return Page(status, _phrase(status), f"The request was not passed on: {reason}.")


def misdirected(host: str) -> Page:
    """The name in TLS is not the one in the request (RFC 9110, section 15.5.20)."""
    return Page(
        421,
        "Wrong connection",
        f"This connection was not made for {host}. Reload the page.",
    )


def render(page: Page, *, html: bool, head_only: bool, keep_alive: bool) -> bytes:
    """Return the response.

    Args:
        html: whether the visitor wants HTML; else plain text.
        head_only: the request was a HEAD: no body follows.
        keep_alive: whether the connection can be used again.
    """
    if html:
        from html import escape  # half a MiB of entities that most relays never need

        hint = f"<p><small>{escape(page.hint)}</small></p>" if page.hint else ""
        text = (
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{page.status} {escape(page.title)}</title><style>{_STYLE}</style>"
            f"<main><b>{page.status}</b><h1>{escape(page.title)}</h1>"
            f"<p>{escape(page.text)}</p>{hint}</main></html>\n"
        )
    else:
        text = "\n".join(filter(None, (f"{page.status} {page.title}", page.text, page.hint))) + "\n"
    body = text.encode()
    kind = "text/html" if html else "text/plain"
    lines = [
        f"HTTP/1.1 {page.status} {_phrase(page.status)}",
        f"Content-Type: {kind}; charset=utf-8",
        f"Content-Length: {len(body)}",
        *_SECURITY,
    ]
    if page.status == 503:
        lines.append("Retry-After: 10")
    if page.status == 405:
        lines.append("Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    if not keep_alive:
        lines.append("Connection: close")
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return head if head_only else head + body


def wants_html(accept: bytes) -> bool:
    """Whether an Accept field asks for HTML: browsers do, curl does not."""
    return b"text/html" in accept.lower()


def _phrase(status: int) -> str:
    return _PHRASES.get(status, "Error")
