"""Services see who their visitors are: nginx and sshd in their own logs, and ``whois``."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.addresses import HostPort
from reverse_proxy.proxy_protocol import SIGNATURE
from tests.programs.ends import Destination, connected, free_port
from tests.programs.harness import Suite, wait_for
from tests.programs.sites import ask
from tests.programs.test_clients import listens, ssh_server

__all__ = ["ssh_server"]  # a fixture

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
VISITORS = ("127.0.0.21", "127.0.0.22", "127.0.0.23")


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[tuple[HostPort, HostPort, Path]]:
    """Yield where nginx listens with PROXY protocol, where without, and its log of clients."""
    if NGINX is None:
        pytest.skip("needs nginx (Debian: nginx-light)")
    proxied, plain = free_port(), free_port()
    log = tmp_path / "access.log"
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"""daemon off; master_process off; pid {tmp_path}/nginx.pid; error_log stderr;
        events {{ }}
        http {{
          log_format who '$remote_addr $server_port $http_x_forwarded_for';
          access_log {log} who;
          client_body_temp_path {tmp_path}/a; proxy_temp_path {tmp_path}/b;
          fastcgi_temp_path {tmp_path}/c; uwsgi_temp_path {tmp_path}/d;
          scgi_temp_path {tmp_path}/e;
          set_real_ip_from 127.0.0.0/8;
          server {{ listen 127.0.0.1:{proxied} proxy_protocol; real_ip_header proxy_protocol;
                    location / {{ return 200 hello; }} }}
          server {{ listen 127.0.0.1:{plain}; real_ip_header X-Forwarded-For;
                    location / {{ return 200 hello; }} }}
        }}"""
    )
    server = subprocess.Popen([NGINX, "-c", config, "-p", tmp_path], stderr=subprocess.PIPE)
    try:
        wait_for(lambda: listens(plain) or server.poll() is not None, "nginx listens")
        if server.poll() is not None:
            assert server.stderr is not None
            pytest.skip(f"nginx does not run here: {server.stderr.read().decode()}")
        yield HostPort("127.0.0.1", proxied), HostPort("127.0.0.1", plain), log
    finally:
        server.terminate()
        server.wait(10)
        if server.stderr is not None:
            server.stderr.close()


def get_from(source: str, public: HostPort, host: str) -> None:
    """Ask for a page, coming from one of this machine's loopback addresses."""
    with socket.socket() as sock:
        sock.settimeout(20)
        sock.bind((source, 0))
        sock.connect((public.host, public.port))
        assert ask(sock, host) == (200, b"hello")


def lines(log: Path, count: int) -> list[str]:
    wait_for(lambda: log.exists() and log.read_text().count("\n") >= count, "nginx has logged")
    return log.read_text().splitlines()


@pytest.mark.parametrize("option", ["proxy-v1", "proxy-v2", "proxy-v2,raw"])
def test_nginx_sees_visitors_by_proxy_protocol(
    suite: Suite, nginx: tuple[HostPort, HostPort, Path], option: str
) -> None:
    proxied, _, log = nginx
    relay = suite.relay()
    proxy = suite.reverse_proxy(relay, "-e", f"0:{proxied},{option}")
    for source in VISITORS:
        get_from(source, proxy.exposed()[0], "a.example.org")
    assert [line.split()[0] for line in lines(log, 3)] == list(VISITORS)
    for source in VISITORS:  # both sides' own logs know them as well
        relay.wait_log(rf"visitor visitor={source}:\d+ .*outcome=finished")
        proxy.wait_log(rf"stream source={source}:\d+ .*outcome=finished")


def test_nginx_sees_visitors_by_x_forwarded_for(
    suite: Suite, nginx: tuple[HostPort, HostPort, Path]
) -> None:
    _, plain, log = nginx
    relay = suite.relay("--domain", "fidb.app", "--http-port", "0")
    suite.reverse_proxy(relay, "--http", f"app:{plain}")
    for source in VISITORS:
        get_from(source, relay.addresses()[1], "app.fidb.app")
    assert [line.split()[0] for line in lines(log, 3)] == list(VISITORS)


def test_nginx_sees_the_sources_of_a_route(
    suite: Suite, nginx: tuple[HostPort, HostPort, Path]
) -> None:
    proxied, _, log = nginx
    relay = suite.relay()
    suite.reverse_proxy(relay)
    entry = suite.entry_point(relay, "-r", f"0:{proxied},proxy-v2")
    for source in VISITORS:
        get_from(source, entry.addresses()[0], "a.example.org")
    assert [line.split()[0] for line in lines(log, 3)] == list(VISITORS)


def test_a_proxy_header_names_both_ends(suite: Suite) -> None:
    with Destination() as destination:
        relay = suite.relay()
        proxy = suite.reverse_proxy(relay, "-e", f"0:{destination.address},proxy-v2")
        public = proxy.exposed()[0]
        with destination.stream(public) as (visitor, service):
            visitor.sendall(b"hello")
            head = service.recv(16 + 12, socket.MSG_WAITALL)
            assert head[:16] == SIGNATURE + b"\x21\x11\x00\x0c"
            assert head[16:24] == socket.inet_aton("127.0.0.1") * 2
            assert int.from_bytes(head[24:26], "big") == visitor.getsockname()[1]
            assert int.from_bytes(head[26:28], "big") == public.port
            assert service.recv(5) == b"hello"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="127.0.0.0/8 is Linux's")
def test_sshd_sees_visitors_by_stable_loopback_addresses(
    suite: Suite, ssh_server: tuple[HostPort, list[str]], tmp_path: Path
) -> None:
    address, options = ssh_server
    known = ("--visitors-file", str(tmp_path / "visitors.json"))
    relay = suite.relay()
    seen: dict[str, str] = {}
    for again in range(2):  # the addresses are the same after a restart
        proxy = suite.reverse_proxy(relay, "-e", f"0:{address},loopback", *known)
        public = proxy.exposed()[0]
        for source in VISITORS:
            before = (tmp_path / "sshd.log").read_text()
            done = subprocess.run(
                ["ssh", "-b", source, "-p", str(public.port), *options, public.host, "true"],
                capture_output=True,
                timeout=50,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            news = (tmp_path / "sshd.log").read_text().removeprefix(before)
            (stand_in,) = set(re.findall(r"Accepted publickey for \S+ from (127\.\S+) ", news))
            assert seen.setdefault(source, stand_in) == stand_in, again
        proxy.kill() if again else proxy.process.terminate()
        proxy.wait()
    assert len(set(seen.values())) == len(VISITORS)
    for source, stand_in in seen.items():
        told = subprocess.run(
            [sys.executable, "-m", "reverse_proxy", "whois", stand_in, *known],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert f" {source} " in told.stdout, told
    told = subprocess.run(
        [sys.executable, "-m", "reverse_proxy", "whois", "127.200.1.1", *known],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (told.returncode, "127.200.1.1 stands for nobody in" in told.stderr) == (2, True)


def test_a_loopback_address_does_not_reach_elsewhere(suite: Suite) -> None:
    with Destination("::1") as destination:
        relay = suite.relay()
        port = destination.address.port
        proxy = suite.reverse_proxy(relay, "-e", f"0:ip6-localhost:{port},loopback")
        with connected(proxy.exposed()[0]) as sock, pytest.raises(ConnectionResetError):
            sock.recv(1)
        proxy.wait_log("outcome=refused .*(not-loopback|unresolved)")
