"""A stream by both its ends: every byte is compared as it comes, and each end says how it ended."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from random import Random

from tests.programs.harness import wait_for

RING = 1_000_003
"""Bytes after which what a stream carries repeats: a prime, so no offset error goes unseen."""
PIECE = 65_536
DEADLINE_S = 60.0


@contextmanager
def joined(
    source: socket.socket, listener: socket.socket
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield a source that has just connected, and what came of it at the destination's listener.

    Raises:
        OSError: nothing; the source was reset.
    """
    name = os.urandom(8)
    source.settimeout(DEADLINE_S)
    source.sendall(name)
    with ExitStack() as stack:
        while True:
            ready, _, _ = select.select([source, listener], [], [], DEADLINE_S)
            if listener not in ready:
                raise OSError(f"no stream: {source.recv(1)!r}" if ready else "no stream")
            destination = stack.enter_context(listener.accept()[0])
            destination.settimeout(DEADLINE_S)
            with suppress(ConnectionResetError):
                if destination.recv(len(name), socket.MSG_WAITALL) == name:
                    break  # and not one of an earlier try
        yield source, destination


def first_stream(connect: Callable[[], socket.socket], listener: socket.socket) -> float:
    """Try until a new stream answers; return the seconds that took."""
    begin = time.monotonic()

    def answered() -> bool:
        with suppress(OSError), connect() as sock, joined(sock, listener) as (source, destination):
            destination.sendall(b"?")
            return source.recv(1) == b"?"
        return False

    wait_for(answered, "a new stream", 90)
    return time.monotonic() - begin


class End:
    """One end of a stream: sends what was agreed, and compares what it gets.

    Attributes:
        received: how many bytes have come; all of them were right.
        sent: how many bytes the kernel has taken.
        ended: ``end``, ``reset``, or what else it was; empty while the stream goes on.
        ended_at: when.
    """

    def __init__(self, sock: socket.socket, sends: bytes, expects: bytes) -> None:
        sock.settimeout(DEADLINE_S)
        self.received = self.sent = 0
        self.ended = ""
        self.ended_at = 0.0
        self._sock = sock
        self._sends, self._expects = memoryview(sends * 2), memoryview(expects * 2)
        self._was_reset = False
        self._stop = threading.Event()
        self._sender: threading.Thread | None = None
        self._receiver = threading.Thread(target=self._receive, daemon=True)
        self._receiver.start()

    def talk(self) -> None:
        """Send as fast as it goes, until :meth:`finish`."""
        self._sender = threading.Thread(target=self._send, daemon=True)
        self._sender.start()

    def finish(self) -> None:
        """Stop sending, with a FIN."""
        self._stop.set()
        if self._sender is None:
            self._sock.shutdown(socket.SHUT_WR)

    def join(self) -> None:
        """Wait until this end is over."""
        for thread in (self._receiver, self._sender):
            if thread is not None:
                thread.join(DEADLINE_S + 5)
                assert not thread.is_alive(), "an end of a stream neither goes on nor ends"

    def _send(self) -> None:
        try:
            while not self._stop.is_set():
                at = self.sent % RING
                self.sent += self._sock.send(self._sends[at : at + PIECE])
            self._sock.shutdown(socket.SHUT_WR)
        except ConnectionResetError:
            self._was_reset = True  # the kernel tells once: the receiver may see a mere end
        except OSError:
            pass  # the receiver says how it ended

    def _receive(self) -> None:
        try:
            how = self._compare()
        except ConnectionResetError:
            how = "reset"
        except OSError as error:
            how = f"{type(error).__name__}: {error}"
        if how == "end" and self._sender is not None and not self._stop.is_set():
            self._stop.set()
            self._sender.join(DEADLINE_S)
            how = "reset" if self._was_reset else "end"
        self.ended_at = time.monotonic()
        self.ended = how

    def _compare(self) -> str:
        while data := self._sock.recv(4 * PIECE):
            at = self.received % RING
            if data != self._expects[at : at + len(data)]:
                return f"wrong bytes after {self.received}"
            self.received += len(data)
        return "end"


class Talk:
    """A stream whose ends both send what nobody else does.

    Args:
        source, destination: connected with each other; closed by whoever made them, after
            :meth:`let_go`.
    """

    def __init__(
        self, name: str, source: socket.socket, destination: socket.socket, random: Random
    ) -> None:
        there, back = random.randbytes(RING), random.randbytes(RING)
        self.name = name
        self.ends = {
            "source": End(source, there, back),
            "destination": End(destination, back, there),
        }
        self._sockets = (source, destination)

    def talk(self) -> None:
        """Let both ends send as fast as it goes."""
        for each in self.ends.values():
            each.talk()

    def go_on(self) -> None:
        """Wait until bytes arrive at both ends; fail if the stream is over."""
        before = {side: each.received for side, each in self.ends.items()}

        def more() -> bool:
            for side, each in self.ends.items():
                assert not each.ended, f"{self.name} stream at its {side}: {each.ended}"
            return all(each.received > before[side] for side, each in self.ends.items())

        wait_for(more, f"the {self.name} stream goes on")

    def finish(self) -> int:
        """End the stream properly and return how many bytes it carried, all of them right."""
        source, destination = self.ends.values()
        for each in (source, destination):
            each.finish()
        for each, other in ((source, destination), (destination, source)):
            each.join()
            assert each.ended == "end", f"{self.name} stream: {each.ended}"
            assert each.received == other.sent, f"{self.name}: {other.sent} -> {each.received}"
        return source.received + destination.received

    def aborted_after(self, since: float, limit_s: float) -> float:
        """Return seconds until both ends were reset; fail if one is not, or looks like an end."""
        for side, each in self.ends.items():
            what = f"the {self.name} stream's {side} is told"
            wait_for(lambda each=each: each.ended, what, limit_s)  # type: ignore[misc]
            assert each.ended == "reset", f"{self.name} stream at its {side}: {each.ended}"
        return max(each.ended_at for each in self.ends.values()) - since

    def let_go(self) -> None:
        """Wake whoever still waits at an end: a descriptor that is read is not closed yet."""
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
