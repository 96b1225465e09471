"""Public ports of the relay: who gets them, who keeps them, and what visitors see."""

from __future__ import annotations

import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.addresses import HostPort
from tests.programs.ends import (
    Destination,
    TcpServer,
    be_refused,
    connected,
    download,
    free_port,
    receive_all,
    receive_reset,
    upload,
)
from tests.programs.harness import Program, Suite, wait_for

MIB = 1024 * 1024
KINDS = pytest.mark.parametrize("option", ["", ",raw"])


def expose(suite: Suite, relay: Program, *args: str) -> tuple[Program, HostPort]:
    """Start a reverse-proxy and return it with its first public port."""
    program = suite.reverse_proxy(relay, *args)
    return program, program.exposed()[0]


def as_another(suite: Suite) -> tuple[str, ...]:
    """Make a second key that the relay trusts too; return the flags that use it."""
    suite.new_identity("other")
    trusted = suite.path("auth.pub")
    trusted.write_text(trusted.read_text() + suite.path("other.pub").read_text())
    return ("-a", "cert/other")


def says(who: bytes) -> TcpServer:
    """A server that tells its name to whoever connects, and waits for the end."""

    def handle(sock: socket.socket) -> None:
        sock.sendall(who)
        receive_all(sock)

    return TcpServer(handle)


def heard(address: HostPort) -> bytes:
    with connected(address) as sock:
        sock.shutdown(socket.SHUT_WR)
        return receive_all(sock)


@KINDS
def test_bytes_and_half_closes_both_ways(suite: Suite, option: str) -> None:
    with Destination() as destination:
        relay = suite.relay()
        proxy, public = expose(suite, relay, "-e", f"0:{destination.address}{option}")
        with destination.stream(public) as (visitor, service), ThreadPoolExecutor() as threads:
            sent = threads.submit(upload, visitor, 16 * MIB)
            assert download(service, 16 * MIB) == sent.result()
            visitor.shutdown(socket.SHUT_WR)
            assert receive_all(service) == b""
            sent = threads.submit(upload, service, 16 * MIB)
            assert download(visitor, 16 * MIB) == sent.result()
            service.shutdown(socket.SHUT_WR)
            assert receive_all(visitor) == b""
        relay.wait_log("visitor .*outcome=finished")
        proxy.wait_log("stream .*outcome=finished")
        if option:
            assert relay.metric("bytes_spliced") > 31 * MIB
            assert proxy.metric("bytes_spliced") > 31 * MIB


@KINDS
@pytest.mark.parametrize("side", ["visitor", "service"])
def test_a_reset_arrives_as_one(suite: Suite, option: str, side: str) -> None:
    with Destination() as destination:
        relay = suite.relay()
        _, public = expose(suite, relay, "-e", f"0:{destination.address}{option}")
        for _ in range(10):
            with destination.stream(public) as (visitor, service):
                visitor.sendall(b"hello")
                assert service.recv(5) == b"hello"
                one, other = (visitor, service) if side == "visitor" else (service, visitor)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                one.close()
                assert receive_reset(other) == 0


@KINDS
def test_a_service_that_is_not_there_is_a_reset(suite: Suite, option: str) -> None:
    relay = suite.relay()
    proxy, public = expose(suite, relay, "-e", f"0:{free_port()}{option}")
    be_refused(public)
    proxy.wait_log("stream .*outcome=refused .*unreachable")
    relay.wait_log("visitor .*outcome=refused .*unreachable")


@KINDS
def test_many_visitors_at_once_and_the_link_count_goes_back(suite: Suite, option: str) -> None:
    with says(b"hello") as service, ThreadPoolExecutor(64) as threads:
        relay = suite.relay()
        proxy, public = expose(
            suite, relay, "-e", f"0:{service.address}{option}", "--pool-linger", "1"
        )
        assert list(threads.map(lambda _: heard(public), range(300))) == [b"hello"] * 300
        relay.wait_metric("visitors", lambda count: count == 0)
        if not option:
            proxy.wait_metric("visitor_channels", lambda count: count <= 8)


@KINDS
def test_killing_a_program_resets_its_visitors(suite: Suite, option: str) -> None:
    for victim in ("relay", "proxy"):
        with Destination() as destination:
            relay = suite.relay()
            proxy, public = expose(suite, relay, "-e", f"0:{destination.address}{option}")
            with destination.stream(public) as (visitor, service):
                visitor.sendall(b"hello")
                assert service.recv(5) == b"hello"
                (relay if victim == "relay" else proxy).kill()
                assert receive_reset(visitor) == 0
                assert receive_reset(service) == 0


def test_an_away_proxy_s_port_stays_bound_and_refuses_at_once(suite: Suite) -> None:
    with says(b"hello") as service:
        relay = suite.relay()
        proxy, public = expose(suite, relay, "-e", f"0:{service.address}")
        assert heard(public) == b"hello"
        proxy.kill()
        relay.wait_metric("tenants_present", lambda count: count == 0)
        started = time.monotonic()
        be_refused(public)
        assert time.monotonic() - started < 3
        relay.wait_log("visitor .*its reverse-proxy is away")
        _, again = expose(suite, relay, "-e", f"{public.port}:{service.address}")
        assert again.port == public.port
        assert heard(public) == b"hello"


def test_visitors_wait_for_a_proxy_that_asked_for_it(suite: Suite) -> None:
    with says(b"one") as one, says(b"two") as two, ThreadPoolExecutor() as threads:
        relay = suite.relay()
        proxy, public = expose(suite, relay, "--hold", "60", "-e", f"0:{one.address}")
        proxy.kill()
        relay.wait_metric("tenants_present", lambda count: count == 0)
        waiting = [threads.submit(heard, public) for _ in range(3)]
        relay.wait_metric("visitors", lambda count: count == 3)
        expose(suite, relay, "-e", f"{public.port}:{two.address}")
        assert [each.result() for each in waiting] == [b"two"] * 3


def test_the_same_key_takes_over_at_once_though_the_old_link_seems_alive(suite: Suite) -> None:
    with says(b"one") as one, says(b"two") as two:
        relay = suite.relay("--heartbeat", "30")
        old, public = expose(suite, relay, "-e", f"0:{one.address}")
        assert heard(public) == b"one"
        old.signal(signal.SIGSTOP)
        expose(suite, relay, "-e", f"{public.port}:{two.address}")
        assert heard(public) == b"two"
        old.signal(signal.SIGCONT)
        old.wait_log("not exposed .*taken-over")
        assert heard(public) == b"two"


def test_another_key_is_refused_and_told_who_holds_the_port(suite: Suite) -> None:
    with says(b"one") as one, says(b"two") as two:
        other = as_another(suite)
        relay = suite.relay()
        proxy, public = expose(suite, relay, "-e", f"0:{one.address}")
        rival = suite.reverse_proxy(relay, *other, "-e", f"{public.port}:{two.address}")
        line = rival.wait_log("not exposed .*held")
        assert suite.identity.public.fingerprint in line
        assert heard(public) == b"one"
        proxy.kill()  # its port is kept for its key
        relay.wait_metric("tenants_present", lambda count: count == 1)
        be_refused(public)


def test_a_port_is_let_go_when_its_proxy_does_not_come_back(suite: Suite) -> None:
    with says(b"two") as two:
        other = as_another(suite)
        relay = suite.relay("--reserve", "1")
        proxy, public = expose(suite, relay, "-e", f"0:{two.address}")
        proxy.kill()
        relay.wait_log("no longer exposed .*did not come back")
        with pytest.raises(ConnectionRefusedError), connected(public):
            pass
        expose(suite, relay, *other, "-e", f"{public.port}:{two.address}")
        assert heard(public) == b"two"


def test_permitlisten_decides_which_ports_a_key_may_have(suite: Suite) -> None:
    allowed, forbidden = free_port(), free_port()
    trusted = suite.path("auth.pub")
    plain = trusted.read_text()
    trusted.write_text(f'permitlisten="{allowed}" {plain}')
    with says(b"hello") as service:
        relay = suite.relay()
        proxy = suite.reverse_proxy(
            relay, "-e", f"{allowed}:{service.address},{forbidden}:{service.address}", "-e", "0:80"
        )
        proxy.wait_log(rf"not exposed .*{forbidden}.*not-permitted")
        proxy.wait_log(r"not exposed .*exposure=0:.*not-permitted")
        assert heard(HostPort("127.0.0.1", allowed)) == b"hello"
        trusted.write_text(f'permitlisten="{forbidden}" {plain}')
        relay.signal(signal.SIGHUP)
        proxy.wait_log(rf"not exposed .*{allowed}.*not-permitted")
        with pytest.raises(ConnectionRefusedError), connected(HostPort("127.0.0.1", allowed)):
            pass


def test_a_key_that_is_no_longer_trusted_loses_its_ports(suite: Suite) -> None:
    with says(b"hello") as service:
        as_another(suite)
        relay = suite.relay()
        _, public = expose(suite, relay, "-e", f"0:{service.address}")
        suite.path("auth.pub").write_text(suite.path("other.pub").read_text())
        relay.signal(signal.SIGHUP)
        relay.wait_log("no longer exposed")
        with pytest.raises(ConnectionRefusedError), connected(public):
            pass


def test_only_the_source_that_is_named_is_admitted(suite: Suite) -> None:
    with says(b"hello") as service:
        relay = suite.relay()
        _, public = expose(suite, relay, "-e", f"127.0.0.9:0:{service.address}")
        be_refused(public)
        relay.wait_log("visitor turned away .*admits this source")
        with socket.socket() as sock:
            sock.bind(("127.0.0.9", 0))
            sock.settimeout(10)
            sock.connect((public.host, public.port))
            assert sock.recv(5) == b"hello"


def test_a_port_that_others_have_is_refused_with_the_reason(suite: Suite) -> None:
    with says(b"hello") as service:
        relay = suite.relay()
        proxy = suite.reverse_proxy(relay, "-e", f"{service.address.port}:80,0:{service.address}")
        proxy.wait_log("not exposed .*cannot-listen .*another program listens there")
        assert heard(proxy.exposed()[0]) == b"hello"


def test_names_without_a_place_for_them_are_refused_with_the_next_step(suite: Suite) -> None:
    relay = suite.relay()
    proxy = suite.reverse_proxy(relay, "--http", "app:80", "--https", "www.example.org:443")
    proxy.wait_log("not exposed .*app.*not-served .*--http-port")
    proxy.wait_log("not exposed .*www.*not-served .*--https-port")


def test_visitors_and_sources_share_a_proxy(suite: Suite) -> None:
    with says(b"hello") as service:
        relay = suite.relay()
        _, public = expose(suite, relay, "-e", f"0:{service.address}")
        entry = suite.entry_point(relay, "-r", f"0:{service.address}")
        assert heard(public) == heard(entry.addresses()[0]) == b"hello"


@KINDS
def test_the_end_lets_visitors_finish(suite: Suite, option: str) -> None:
    for which in ("relay", "proxy"):
        with Destination() as destination:
            relay = suite.relay()
            proxy, public = expose(suite, relay, "-e", f"0:{destination.address}{option}")
            with destination.stream(public) as (visitor, service):
                visitor.sendall(b"hello")
                assert service.recv(5) == b"hello"
                program = relay if which == "relay" else proxy
                program.signal(signal.SIGTERM)
                program.wait_log("stopping")
                service.sendall(b"world")
                assert visitor.recv(5) == b"world"
                visitor.shutdown(socket.SHUT_WR)
                assert receive_all(service) == b""
                service.shutdown(socket.SHUT_WR)
                assert receive_all(visitor) == b""
            assert program.wait() == 0


def test_descriptors_go_back_to_where_they_were(suite: Suite) -> None:
    with says(b"hello") as service, ThreadPoolExecutor(16) as threads:
        relay = suite.relay()
        proxy, public = expose(
            suite,
            relay,
            *("-e", f"0:{service.address}", "-e", f"0:{service.address},raw"),
            *("--pool-linger", "1"),
        )
        raw = proxy.exposed()[1]

        def settled() -> tuple[int, int]:
            return relay.descriptors(), proxy.descriptors()

        assert heard(public) == heard(raw) == b"hello"
        seen: list[tuple[int, int]] = []

        def rests() -> bool:  # the pools are full once nothing has changed for half a second
            seen.append(settled())
            return len(seen) > 5 and len(set(seen[-6:])) == 1

        wait_for(rests, "the pools are full", step_s=0.1)
        before = seen[-1]
        list(threads.map(heard, [public, raw] * 100))
        wait_for(
            lambda: max(now - then for now, then in zip(settled(), before, strict=True)) <= 4,
            f"descriptors go back to {before}",
        )
        assert re.search(r"visitor .*outcome=finished", relay.log)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--domain", "192.0.2.1", "--http-port", "0"), "--domain: 192.0.2.1 is an address"),
        (("--domain", "a b", "--http-port", "0"), "--domain: not a host name"),
        (("--domain", "example.org"), "--domain: no names are served; add --http-port"),
        (
            ("--https-cert", "cert/server.crt", "--https-key", "cert/server.key"),
            "--https-cert: nothing is served over TLS; add --https-port",
        ),
        (("--https-cert", "cert/server.crt", "--https-port", "0"), "give one key for each"),
        (("--public-host", "203.0.113.99"), "cannot listen on 203.0.113.99:0"),
        (("--public-host", "nonsense"), "cannot listen on nonsense:0"),
    ],
)
def test_settings_that_do_not_fit(suite: Suite, flags: tuple[str, ...], message: str) -> None:
    relay = suite.start("relay-server", "--host", "127.0.0.1", "-p", "0", *flags)
    assert relay.wait() == 2
    assert message in relay.log


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("-e", "80"), "'80': not a route"),
        (("-e", "80:80,fast"), "unknown option 'fast'; known are proxy-v1, proxy-v2, loopback"),
        (("-e", "raw,80:80"), "--expose: option 'raw' follows nothing"),
        (("-e", "80:80,80:81"), "both ask for port 80"),
        (("-e", "53:53/udp,raw"), "'raw' is not for UDP"),
        (("-e", "80:10.0.0.1:80,loopback"), "loopback works for destinations in 127.0.0.0/8"),
        (("--http", "app"), "write name:port or name:host:port"),
        (("--http", "10.0.0.1:80"), "is an address; write a host name, or expose a port with -e"),
        (("--http", "app:80,raw"), "unknown option 'raw'; known are host=NAME"),
        (("--http", "app:80,host=a b"), "host=: not a host name"),
        (("--https", "b\u00fccher:80"), "not in ASCII; write it in its xn-- form"),
    ],
)
def test_exposures_that_cannot_be_understood(
    suite: Suite, flags: tuple[str, ...], message: str
) -> None:
    proxy = suite.start("reverse-proxy", "-s", "127.0.0.1:1", *flags)
    assert proxy.wait() == 2
    assert message in proxy.log
