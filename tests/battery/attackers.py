"""Attackers who have not logged in: a program of its own, sharing no lock with who measures.

It runs with the lowest priority: on a machine of its own, where an attacker sits, it would cost the
relay nothing but what it sends. Each of ``count`` attackers begins anew whenever the relay has had
enough of it. Ends when its input does, and prints what was tried as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from common.addresses import HostPort, parse_host_port
from common.key_files import load_identity
from common.keys import Identity
from common.tls import link_context
from common.wire import ALPN, VERSION, Hello, Message, encode, trust_messages
from gen_cert.ed25519 import random_seed

CONNECT_S = 15.0
"""Nothing is far on loopback, but with the lowest priority a busy machine lets us wait."""
PATIENCE_S = 30.0
"""The relay's longest deadline for a stranger is 10 s; who waits for so long is forgotten."""


class Cut(Exception):  # noqa: N818 - no error
    """The attacker has sent all it wanted to send."""


class Attackers:
    """What all attackers of this process share.

    Args:
        relay: whom they attack.
        sources: how many addresses, from 127.0.0.1 on, they come from.
        identity: the key that the relay knows, or one that it does not know.
        certificate: the relay's, as a file.

    Attributes:
        tried: how often one of them came.
        unreached: how many of these found no way to the relay.
        forgotten: how many were neither served nor thrown out within ``PATIENCE_S``.
        heard: how many the relay said something to at the end of what they had to say.
    """

    def __init__(
        self, relay: HostPort, sources: int, identity: Identity, certificate: str, seed: int
    ) -> None:
        self._relay, self._sources = relay, sources
        self._identity = identity
        self._context = link_context(identity, certificate)
        self.random = random.Random(seed)
        self.tried = self.unreached = self.forgotten = self.heard = 0
        self._whole = 0  # bytes that a client sends from its first to the end of HELLO
        self.first_flight = first_flight()

    async def connect(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        # Closing leaves nothing behind, or the addresses of this machine would run out.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.tried += 1
        try:
            sock.bind((f"127.0.0.{1 + self.tried % self._sources}", 0))
            async with asyncio.timeout(CONNECT_S):
                await loop.sock_connect(sock, (self._relay.host, self._relay.port))
        except OSError as error:
            sock.close()
            self.unreached += 1
            raise ConnectionError(str(error)) from None  # of all kinds, a time-out too
        except BaseException:
            sock.close()
            raise
        return sock

    async def silent(self) -> None:
        """Say nothing, until thrown out."""
        with await self.connect() as sock:
            await self._until_end(sock)

    async def drip(self) -> None:
        """Say one byte of a good first flight a second."""
        loop = asyncio.get_running_loop()
        with await self.connect() as sock:
            end = asyncio.ensure_future(self._until_end(sock))
            try:
                for byte in self.first_flight:
                    await loop.sock_sendall(sock, bytes([byte]))
                    done, _ = await asyncio.wait([end], timeout=1.0)
                    if done:
                        return
            finally:
                end.cancel()
                with suppress(asyncio.CancelledError, OSError):
                    await end

    async def garbage(self) -> None:
        """Say what is no TLS, or no TLS of ours."""
        words = [
            self.random.randbytes(300),
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            self.first_flight[: self.random.randrange(1, len(self.first_flight))],
            b"\x16\x03\x01\xff\xff" + self.random.randbytes(500),
            b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + self.random.randbytes(500),
            bytes(1000),
        ]
        with await self.connect() as sock:
            await asyncio.get_running_loop().sock_sendall(sock, self.random.choice(words))
            await self._until_end(sock)

    async def hello(self) -> None:
        """Have the relay answer a ClientHello, and go: no work at all on this side."""
        loop = asyncio.get_running_loop()
        with await self.connect() as sock:
            await loop.sock_sendall(sock, self.first_flight)
            if await loop.sock_recv(sock, 65536):
                self.heard += 1

    async def stuck(self) -> None:
        """Say hello, and then nothing: the relay keeps a session for it."""
        with await self.connect() as sock:
            await asyncio.get_running_loop().sock_sendall(sock, self.first_flight)
            await self._until_end(sock)

    async def login(self) -> None:
        """Go all the way to the verdict with the key given: DENIED, if it is nobody's."""
        with await self.connect() as sock:
            await self._introduce(sock, sys.maxsize)
            await self._until_end(sock)

    async def churn(self) -> None:
        """Begin as a client does, stop after any byte, and go in one of three ways."""
        if not self._whole:
            with await self.connect() as sock:
                self._whole = await self._introduce(sock, sys.maxsize)
        sock = await self.connect()
        with sock:
            with suppress(Cut):
                await self._introduce(sock, self.random.randrange(1, self._whole))
            way = self.random.choice(["RST", "FIN", "FIN, and wait"])
            if way != "RST":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
                sock.shutdown(socket.SHUT_WR)
            if way == "FIN, and wait":
                await self._until_end(sock)

    async def _until_end(self, sock: socket.socket) -> None:
        """Read until the relay ends the connection."""
        loop = asyncio.get_running_loop()
        if await loop.sock_recv(sock, 65536):
            self.heard += 1
            while await loop.sock_recv(sock, 65536):
                pass

    async def _introduce(self, sock: socket.socket, budget: int) -> int:
        """Be a client up to HELLO, or until ``budget`` bytes are sent; return how many were."""
        loop = asyncio.get_running_loop()
        theirs, ours = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(theirs, ours, server_hostname=self._relay.host)
        sent = 0

        async def flush() -> None:
            nonlocal sent
            data = ours.read()[: budget - sent]
            await loop.sock_sendall(sock, data)
            sent += len(data)
            if sent >= budget:
                raise Cut

        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await flush()
                data = await loop.sock_recv(sock, 65536)
                if not data:
                    raise ConnectionResetError("the relay has ended it") from None
                theirs.write(data)
        keys = [self._identity.public.raw]
        hello = Hello([VERSION], "entry-point", "nobody else", os.urandom(16), "attacker")
        greeting: list[Message] = [*trust_messages(keys), hello]
        tls.write(b"".join(map(encode, greeting)))
        await flush()
        return sent


def first_flight() -> bytes:
    """Return a ClientHello that the relay answers: TLS 1.3 with our ALPN."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    out = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    return out.read()


KINDS: dict[str, Callable[[Attackers], Callable[[], Awaitable[None]]]] = {
    "silent": lambda attackers: attackers.silent,
    "drip": lambda attackers: attackers.drip,
    "garbage": lambda attackers: attackers.garbage,
    "hello": lambda attackers: attackers.hello,
    "stuck": lambda attackers: attackers.stuck,
    "login": lambda attackers: attackers.login,
    "churn": lambda attackers: attackers.churn,
}


async def attack(attackers: Attackers, once: Callable[[], Awaitable[None]], count: int) -> None:
    """Keep ``count`` attackers at it until the input ends."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    async def one() -> None:
        while True:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await once()
            except TimeoutError:
                attackers.forgotten += 1
            except OSError:  # not reached, or thrown out; of TLS, too
                await asyncio.sleep(0)

    def watch() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=watch, daemon=True).start()
    async with asyncio.TaskGroup() as tasks:
        crowd = [tasks.create_task(one()) for _ in range(count)]
        print("attacking", flush=True)
        await over.wait()
        for each in crowd:
            each.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("relay", type=parse_host_port)
    parser.add_argument("certificate")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--sources", type=int, default=1)
    parser.add_argument("--identity", help="a key that the relay knows; by default it is unknown")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    os.nice(19)
    identity = (
        load_identity(str(Path(arguments.identity)))
        if arguments.identity
        else Identity.from_seed(random_seed(), "nobody")
    )
    attackers = Attackers(
        arguments.relay, arguments.sources, identity, arguments.certificate, arguments.seed
    )
    asyncio.run(attack(attackers, KINDS[arguments.kind](attackers), arguments.count))
    counts = ("tried", "unreached", "forgotten", "heard")
    print(json.dumps({each: getattr(attackers, each) for each in counts}), flush=True)


if __name__ == "__main__":
    main()
