"""Starts the three programs in front of a web server, fetches a page and a large file, and tells.

``python -m demo`` serves until Ctrl-C; with ``--once`` it ends by itself, with status 0 if what
came through is what was sent.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn
from rich.table import Table

from demo.children import Child, Children, DemoError, Stopped

MB: Final = 1_000_000
FILE_MB: Final = 100
PRIVATE: Final = Path(__file__).parent / ".run"
PAGE: Final = b"<!doctype html>\n<title>It works</title>\n<h1>Hello from behind the relay</h1>\n"
LOOPBACK: Final = "127.0.0.1"
TIMEOUT_S: Final = 60.0
"""Seconds without a byte after which a fetch has failed: machines may be busy."""


def make_site(site: Path) -> dict[str, str]:
    """Write a page and a file of random bytes; return their paths with their SHA-256."""
    site.mkdir()
    content = {"index.html": PAGE, "large.bin": os.urandom(FILE_MB * MB)}
    for name, data in content.items():
        (site / name).write_bytes(data)
    return {f"/{name}": hashlib.sha256(data).hexdigest() for name, data in content.items()}


def start(console: Console, children: Children, web_port: str) -> tuple[list[Child], int]:
    """Make keys and start the three programs; return them and the port to connect to."""

    def run(name: str, *args: str) -> Child:
        console.print(f"[cyan]$ {escape(' '.join((name, *args)))}[/]", soft_wrap=True)
        more = () if name == "gen-cert" else ("--metrics", f"{LOOPBACK}:0", "--grace", "1")
        return children.start(name, name.replace("-", "_"), *args, *more)

    children.finish(run("gen-cert", "x509", "--dns", "localhost", "--ip", LOOPBACK))
    children.finish(run("gen-cert", "ed25519", "--comment", "demo"))
    relay = run("relay-server", "--host", LOOPBACK, "-p", "0")
    address = relay.said(r"relay-server ready (\S+),")
    proxy = run("reverse-proxy", "-s", address, "--allow", f"{LOOPBACK}:{web_port}")
    proxy.said("reverse-proxy (ready) ")
    route = ("-r", f"0:{web_port}", "--bind", LOOPBACK, "--wait", f"{TIMEOUT_S:g}")
    entry = run("entry-point", "-s", address, *route)
    return [entry, relay, proxy], int(entry.said(r"entry-point ready \S+:(\d+),"))


def fetch(console: Console, port: int, path: str) -> tuple[int, str, float]:
    """Fetch ``path``, with a progress bar on a terminal; return bytes, SHA-256 and seconds."""
    began = time.monotonic()
    digest, size = hashlib.sha256(), 0
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=TIMEOUT_S)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        connection.request("GET", path)
        answer = connection.getresponse()
        task = progress.add_task(f"GET {path}", total=answer.length)
        while data := answer.read(MB // 4):
            digest.update(data)
            size += len(data)
            progress.update(task, completed=size)
    connection.close()
    return size, digest.hexdigest(), time.monotonic() - began


def counters(child: Child, streams: int) -> dict[str, int]:
    """Return the program's own counts, once ``streams`` streams have ended in it."""
    url = "http://" + child.said(r"metrics (\S+)") + "/metrics"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + 5
    while True:
        text = direct.open(url, timeout=TIMEOUT_S).read().decode()
        found = re.findall(r"(?m)^[a-z]+_[a-z]+_(\w+?)(?:_total)? (\S+)$", text)
        counts = {name: int(float(value)) for name, value in found}
        if counts.get("streams_finished", streams) >= streams or time.monotonic() > until:
            return counts
        time.sleep(0.05)


def report(console: Console, children: list[Child], port: int, sums: dict[str, str]) -> bool:
    """Fetch everything and show what happened; return whether it is what was sent."""
    arrived = Table("path", "bytes", "seconds", "MB/s", "SHA-256", "as sent")
    worked = True
    for path, expected in sums.items():
        size, sha256, seconds = fetch(console, port, path)
        worked &= sha256 == expected
        rate = f"{size / seconds / MB:,.1f}"
        same = "[green]yes[/]" if sha256 == expected else "[bold red]NO[/]"
        arrived.add_row(path, f"{size:,}", f"{seconds:.3f}", rate, f"{sha256[:24]}…", same)
    console.print(arrived)
    entry, relay, proxy = (counters(child, len(sums)) for child in children)
    spliced, copied = relay["bytes_spliced"], relay["bytes_copied"]
    way = Table("program", "bytes", "what it saw")
    way.add_row("reverse-proxy", f"{proxy['bytes_sent']:,}", "plaintext, which it encrypts")
    seen = f"only ciphertext: {spliced:,} bytes moved by the kernel (splice), {copied:,} copied"
    way.add_row("relay-server", f"{spliced + copied:,}", seen)
    seen = f"plaintext again: {len(sums)} streams, {entry['channels_opened']} channels made ready"
    way.add_row("entry-point", f"{entry['bytes_received']:,}", seen)
    console.print(way)
    return worked


def show(console: Console, *, once: bool) -> None:
    """Run the demo; all it has started is ended when this returns or raises."""
    PRIVATE.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PRIVATE) as name, Children(Path(name)) as children:
        sums = make_site(Path(name, "site"))
        site = ("0", "--bind", LOOPBACK, "--directory", "site")
        web_port = children.start("web-server", "http.server", *site).said(r"port (\d+)")
        console.print(f"A web server with a page and a file of 100 MB listens on port {web_port}.")
        programs, port = start(console, children, web_port)
        try:
            worked = report(console, programs, port, sums)
        except (OSError, http.client.HTTPException) as error:
            raise programs[0].failed(f"did not deliver ({error!r})") from None
        if not worked:
            raise DemoError("what arrived is not what was sent")
        console.print("[bold green]It works.[/]")
        if once:
            return
        console.print(f"Try it: [bold]curl http://{LOOPBACK}:{port}/[/]    Ctrl-C ends the demo.")
        console.print(f"[dim]Keys and logs, while it runs: {escape(name)}[/]", soft_wrap=True)
        try:
            children.watch()
        except Stopped:
            console.print("Ending.")


def main() -> int:
    """Run the demo with the arguments of this process; return the exit status."""
    try:
        show(Console(highlight=False), once="--once" in sys.argv[1:])
    except DemoError as error:
        Console(stderr=True).print(f"demo: error: {error}", soft_wrap=True, markup=False)
        return 1
    except Stopped:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
