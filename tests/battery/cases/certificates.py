"""The relay's certificate is replaced, expires, or is garbage while everything runs."""

from __future__ import annotations

import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from common.addresses import HostPort
from common.wire import ALPN
from tests.battery.bench import POOL, Battery
from tests.battery.books import Books
from tests.battery.certificates import Authority, encrypted, pinned, put
from tests.battery.chaos import ChaosProxy, End
from tests.battery.registry import case
from tests.battery.talks import Talk, first_stream, joined
from tests.programs.ends import connected
from tests.programs.harness import DEADLINE_S, Program, Suite, wait_for

NEW = ("-c", "cert/relay.crt", "-k", "cert/relay.key")
"""The relay's flags: files that no client pins unless it is told to."""


@dataclass
class Stage:
    """The three programs, with paths to the relay that can be cut."""

    suite: Suite
    relay: Program
    clients: list[Program]
    paths: list[ChaosProxy]
    listener: socket.socket
    entrance: HostPort

    def cut(self) -> None:
        """Reset all connections to the relay, so that all are dialled anew."""
        for each in self.paths:
            each.cut(End.RST)

    def reload(self) -> str:
        """Have the relay read its files again; return what it says."""
        seen = len(self.relay.lines)
        self.relay.signal(signal.SIGHUP)

        def told() -> str:
            return next((each for each in self.relay.lines[seen:] if "reloaded" in each), "")

        return wait_for(told, "the relay has read its files")

    def connect(self) -> socket.socket:
        """Return a new source."""
        return socket.create_connection((self.entrance.host, self.entrance.port), DEADLINE_S)

    def first_stream(self) -> float:
        """Try until a new stream answers; return the seconds that took."""
        return first_stream(self.connect, self.listener)

    @contextmanager
    def busy(self, battery: Battery) -> Iterator[Talk]:
        """Yield a stream that both ends fill; it must be whole at the end."""
        with self.connect() as sock, joined(sock, self.listener) as pair:
            talk = Talk("busy", *pair, battery.random)
            talk.talk()
            talk.go_on()
            try:
                yield talk
                talk.finish()
            finally:
                talk.let_go()


@contextmanager
def stage(battery: Battery, prepare: Callable[[Suite], object], trusted: str) -> Iterator[Stage]:
    """Start all three; ``prepare`` writes the files, of which clients trust ``cert/<trusted>``."""
    with ExitStack() as stack:
        suite = stack.enter_context(battery.suite())
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        prepare(suite)
        # The paths keep much, and a PING waits behind it.
        relay = suite.relay(*NEW, "--heartbeat", "3")
        paths = [stack.enter_context(ChaosProxy(relay.addresses()[0])) for _ in range(2)]
        flags = (*POOL, "-c", f"cert/{trusted}")
        reverse_proxy = suite.reverse_proxy(paths[0].address, *flags)
        routes = ("-r", f"0:127.0.0.1:{listener.getsockname()[1]}")
        entry_point = suite.entry_point(paths[1].address, *routes, *flags)
        clients = [reverse_proxy, entry_point]
        found = Stage(suite, relay, clients, paths, listener, entry_point.addresses()[0])
        found.first_stream()
        books = Books([relay, *clients])
        yield found
        books.balance()


@case("certificates: replaced, by the same authority")
def same_authority(battery: Battery) -> str:
    """Streams go on; new links take the new one without a word at the clients."""
    authorities: list[Authority] = []

    def prepare(suite: Suite) -> None:
        authorities.append(Authority(suite, "ca"))
        authorities[0].issue("relay")

    times = []
    with stage(battery, prepare, "ca.crt") as at:
        shown = {shown_by(at.relay)}
        for number in range(battery.size(quick=1, full=20)):
            with at.busy(battery) as talk:
                authorities[0].issue("relay")
                assert at.reload().endswith(" reloaded")
                talk.go_on()
            at.cut()
            times.append(at.first_stream())
            shown.add(shown_by(at.relay))
            assert len(shown) == number + 2, "the relay shows an old certificate"
        assert "certificate" not in "".join(each.log for each in at.clients)
    return f"{len(times)} times: a stream within {max(times):.1f} s of cutting all links"


@case("certificates: replaced, by another one", quick=False)
def another_one(battery: Battery) -> str:
    """Streams go on; new links are refused on both sides with the reason, until it is put right."""
    with stage(battery, lambda suite: pinned(suite, "relay"), "relay.crt") as at:
        # The clients have read theirs; the relay's files are others from now on.
        right = [at.suite.path(f"relay.{end}").read_bytes() for end in ("crt", "key")]
        with at.busy(battery) as talk:
            pinned(at.suite, "relay")
            assert at.reload().endswith(" reloaded")
            talk.go_on()
        at.cut()
        for each in at.clients:
            each.wait_log("certificate verify failed: self-signed certificate; .* does not show")
        at.relay.wait_log("code=no-login .*unknown ca; the client does not accept this relay's")
        assert at.clients[1].metric("channels_idle") == 0
        for end, data in zip(("crt", "key"), right, strict=True):
            put(at.suite, f"relay.{end}", data)
        assert at.reload().endswith(" reloaded")
        again_s = at.first_stream()
    return f"refused; a stream {again_s:.1f} s after the right one was back"


@case("certificates: expires while it is used", quick=False)
def expires(battery: Battery) -> str:
    """Streams go on; new links are refused with the reason; a new one is enough."""
    authorities: list[Authority] = []

    def prepare(suite: Suite) -> None:
        authorities.append(Authority(suite, "ca"))
        authorities[0].issue("relay")

    with stage(battery, prepare, "ca.crt") as at:
        with at.busy(battery) as talk:
            until = datetime.now(UTC) + timedelta(seconds=battery.size(quick=2, full=10))
            authorities[0].issue("relay", until)
            assert at.reload().endswith(" reloaded")
            left_s = (until - datetime.now(UTC)).total_seconds()
            threading.Event().wait(left_s + 1.5)  # it has expired
            talk.go_on()
        at.cut()
        for each in at.clients:
            each.wait_log("certificate verify failed: certificate has expired; make a new one on")
        at.relay.wait_log("code=no-login .*expired; this relay's certificate has expired: gen-cert")
        authorities[0].issue("relay")
        assert at.reload().endswith(" reloaded")
        again_s = at.first_stream()
    return f"a stream went on, links were refused; a stream {again_s:.1f} s after a new one"


@case("certificates: garbage", quick=False, deadline_s=120)
def garbage(battery: Battery) -> str:
    """The relay keeps what it has and says why; who begins with garbage does not begin."""
    with stage(battery, lambda suite: pinned(suite, "relay"), "relay.crt") as at:
        right = {end: at.suite.path(f"relay.{end}").read_bytes() for end in ("crt", "key")}
        shown = shown_by(at.relay)
        pinned(at.suite, "other")
        noise = battery.random.randbytes(2000)
        bad: list[tuple[str, bytes]] = [
            ("crt", noise),
            ("key", encrypted(right["key"])),
            ("crt", right["crt"][: len(right["crt"]) // 2]),
            ("key", at.suite.path("other.key").read_bytes()),
            ("key", right["key"][: len(right["key"]) // 2]),
            ("crt", b""),
            ("key", noise),
            ("crt", right["crt"].replace(b"M", b"N")),
            ("crt", right["key"]),
        ]
        bad = bad[: battery.size(quick=2, full=len(bad))]
        with at.busy(battery) as talk:
            for end, data in bad:
                put(at.suite, f"relay.{end}", data)
                told = at.reload()
                assert "not reloaded; all stays as it was" in told, told
                assert f"cert/relay.{end}" in told, told
                starter = at.suite.start("relay-server", "--host", "127.0.0.1", "-p", "0", *NEW)
                assert starter.wait() == 2, starter.log
                assert f"cert/relay.{end}" in starter.log, starter.log
                assert "Traceback" not in starter.log
                put(at.suite, f"relay.{end}", right[end])
                talk.go_on()
        at.cut()
        again_s = at.first_stream()
        assert shown_by(at.relay) == shown
        assert at.reload().endswith(" reloaded")
    return f"{len(bad)} kinds refused, before and after the start; new links in {again_s:.1f} s"


def shown_by(relay: Program) -> bytes:
    """Return the certificate that the relay shows now (DER)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([ALPN])
    with (
        connected(relay.addresses()[0]) as sock,
        context.wrap_socket(sock, server_hostname="127.0.0.1") as tls,
    ):
        shown = tls.getpeercert(binary_form=True)
    assert shown
    return shown
