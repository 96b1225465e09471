"""Pages: escaped, self-contained, and framed as any response."""

from __future__ import annotations

import pytest

from relay_server.http.pages import (
    Page,
    bad_gateway,
    busy,
    misdirected,
    offline,
    refused,
    render,
    unknown_host,
    wants_html,
)

EVIL = "<script>alert(1)</script>\"'&"
PAGES = [
    unknown_host(EVIL),
    offline(EVIL),
    busy(EVIL),
    bad_gateway("a.example", EVIL),
    refused(400, EVIL),
    misdirected(EVIL),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.title)
def test_everything_is_escaped_and_nothing_is_loaded(page: Page) -> None:
    response = render(page, html=True, head_only=False, keep_alive=True)
    head, _, body = response.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Cache-Control: no-store" in head
    assert b"Content-Security-Policy: default-src 'none'" in head
    assert b"<script" not in body
    assert b"http" not in body.replace(b"--http", b"")
    assert b"Connection" not in head


@pytest.mark.parametrize("html", [True, False])
def test_a_head_request_gets_no_body_but_the_same_fields(html: bool) -> None:
    whole = render(PAGES[0], html=html, head_only=False, keep_alive=False)
    head = render(PAGES[0], html=html, head_only=True, keep_alive=False)
    assert whole.startswith(head)
    assert head.endswith(b"Connection: close\r\n\r\n")


def test_text_for_those_who_do_not_ask_for_html() -> None:
    assert wants_html(b"text/HTML,application/xhtml+xml")
    assert not wants_html(b"*/*")
    assert not wants_html(b"")
    text = render(unknown_host("a.example"), html=False, head_only=False, keep_alive=True)
    assert b"text/plain" in text
    assert b"a.example" in text.partition(b"\r\n\r\n")[2]
