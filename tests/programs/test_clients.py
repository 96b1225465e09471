"""Clients that people use, through the three programs: curl, a WebSocket, ssh, PostgreSQL."""

from __future__ import annotations

import base64
import contextlib
import getpass
import hashlib
import os
import pwd
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.addresses import HostPort
from tests.programs.ends import TcpServer, connected, free_port, upload
from tests.programs.harness import Suite, wait_for

MIB = 1024 * 1024
SIZES = [200 * MIB, pytest.param(1024 * MIB, marks=pytest.mark.slow)]
IDLE_S = 3.0
"""Six heartbeats."""


# curl


class Web:
    """A web server for one connection each: GET sends ``size`` bytes, PUT takes any number.

    The SHA-256 of what was sent or taken is in :attr:`digests`.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.digests: list[str] = []

    def serve(self, sock: socket.socket) -> None:
        with sock.makefile("rb") as lines:
            method = lines.readline().split()[0]
            head = list(iter(lines.readline, b"\r\n"))
            if method == b"GET":
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self._size)
                self.digests.append(upload(sock, self._size))
                return
            assert b"Transfer-Encoding: chunked\r\n" in head
            digest = hashlib.sha256()
            while size := int(lines.readline(), 16):
                digest.update(lines.read(size))
                lines.readline()
            self.digests.append(digest.hexdigest())
            sock.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")


needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")


@needs_curl
@pytest.mark.timeout(180)
@pytest.mark.parametrize("size", SIZES)
def test_curl_downloads(suite: Suite, size: int) -> None:
    web = Web(size)
    with TcpServer(web.serve) as server:
        *_, entrance = suite.chain(server.address)
        command = ["curl", "--silent", "--show-error", "--fail", f"http://{entrance}/"]
        digest, count = hashlib.sha256(), 0
        with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
            assert curl.stdout is not None
            while data := curl.stdout.read(MIB):
                digest.update(data)
                count += len(data)
        assert curl.returncode == 0
        assert count == size
        assert [digest.hexdigest()] == web.digests


@needs_curl
@pytest.mark.timeout(180)
@pytest.mark.parametrize("size", SIZES)
def test_curl_uploads(suite: Suite, size: int) -> None:
    web = Web(size)
    with TcpServer(web.serve) as server:
        *_, entrance = suite.chain(server.address)
        command = ["curl", "--silent", "--show-error", "--fail", "-T", "-", f"http://{entrance}/x"]
        digest = hashlib.sha256()
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as curl:
            assert curl.stdin is not None
            for _ in range(size // MIB):
                data = os.urandom(MIB)
                digest.update(data)
                curl.stdin.write(data)
            curl.stdin.close()
            assert curl.wait(120) == 0
        wait_for(lambda: web.digests, "the server has taken all")
        assert web.digests == [digest.hexdigest()]


# WebSocket (RFC 6455)

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


def accept_key(key: bytes) -> bytes:
    """RFC 6455, section 4.2.2."""
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())


class WebSocket:
    """One end, after the opening handshake; a client masks what it sends (section 5.3)."""

    def __init__(self, sock: socket.socket, *, client: bool) -> None:
        self._sock = sock
        self._client = client

    def send(self, kind: int, payload: bytes) -> None:
        length = len(payload)
        short = length if length < 126 else 126 if length < 65536 else 127
        head = bytes([0x80 | kind, short | (0x80 if self._client else 0)])
        head += {126: struct.pack(">H", length % 65536), 127: struct.pack(">Q", length)}.get(
            short, b""
        )
        if self._client:
            mask = os.urandom(4)
            head += mask
            payload = masked(payload, mask)
        self._sock.sendall(head + payload)

    def receive(self) -> tuple[int, bytes]:
        first, second = self._exactly(2)
        assert bool(second & 0x80) is not self._client
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self._exactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self._exactly(8))
        mask = bytes(4) if self._client else self._exactly(4)
        return first & 0x0F, masked(self._exactly(length), mask)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._sock.recv(count - len(data))
            assert part, "ended within a frame"
            data += part
        return data


def masked(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    pattern = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(pattern, "big")).to_bytes(size, "big")


def read_head(sock: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = sock.recv(1)
        assert part
        head += part
    return head


def serve_websocket(sock: socket.socket) -> None:
    """Answer every text with the same in capitals, PING with PONG, and CLOSE."""
    lines = dict(line.split(b": ", 1) for line in read_head(sock).splitlines()[1:-1])
    sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(lines[b"Sec-WebSocket-Key"]) + b"\r\n\r\n"
    )
    end = WebSocket(sock, client=False)
    while True:
        kind, payload = end.receive()
        if kind == TEXT:
            end.send(TEXT, payload.upper())
        elif kind == PING:
            end.send(PONG, payload)
        elif kind == CLOSE:
            end.send(CLOSE, payload)
            return


def test_a_websocket_that_is_idle_for_long(suite: Suite) -> None:
    with TcpServer(serve_websocket) as server:
        _, _, entry_point, entrance = suite.chain(server.address)
        with connected(entrance) as sock:
            key = base64.b64encode(os.urandom(16))
            sock.sendall(
                b"GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: " + key + b"\r\n\r\n"
            )
            head = read_head(sock)
            assert head.startswith(b"HTTP/1.1 101 ")
            assert accept_key(key) in head
            end = WebSocket(sock, client=True)
            for length in (1, 125, 126, 65535, 65536, 300_000):
                end.send(TEXT, b"x" * length)
                assert end.receive() == (TEXT, b"X" * length)
            time.sleep(IDLE_S)
            end.send(PING, b"still there?")
            assert end.receive() == (PONG, b"still there?")
            time.sleep(IDLE_S)
            end.send(TEXT, b"and now?")
            assert end.receive() == (TEXT, b"AND NOW?")
            end.send(CLOSE, b"\x03\xe8")
            assert end.receive() == (CLOSE, b"\x03\xe8")
            assert sock.recv(1) == b""
        entry_point.wait_log("outcome=finished")


# ssh

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
_NEEDED = [name for name in ("ssh", "scp", "sftp", "ssh-keygen") if not shutil.which(name)]
PRIVSEP = Path("/run/sshd")


@contextlib.contextmanager
def privilege_separation() -> Iterator[None]:
    """The empty directory that sshd wants if it runs as root; the service's own is left alone."""
    if os.geteuid() != 0 or PRIVSEP.exists():
        yield
        return
    PRIVSEP.mkdir(0o755)
    try:
        yield
    finally:
        PRIVSEP.rmdir()


@pytest.fixture
def ssh_server(tmp_path: Path) -> Iterator[tuple[HostPort, list[str]]]:
    """Yield where sshd listens, and the options by which this user gets in."""
    if SSHD is None or _NEEDED:
        pytest.skip("needs OpenSSH's server and client (Debian: openssh-server)")
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True
        )
    port = free_port()
    config = tmp_path / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path / 'host'}\nPidFile none\n"
        f"AuthorizedKeysFile {tmp_path / 'user.pub'}\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        "Subsystem sftp internal-sftp\n"
    )
    host_key = (tmp_path / "host.pub").read_text()
    (tmp_path / "known_hosts").write_text(f"behind-the-relay {host_key}")
    options = [
        *("-F", "none", "-i", str(tmp_path / "user"), "-o", "IdentitiesOnly=yes"),
        *("-o", f"UserKnownHostsFile={tmp_path / 'known_hosts'}", "-o", "BatchMode=yes"),
        *("-o", "HostKeyAlias=behind-the-relay", "-o", "StrictHostKeyChecking=yes"),
    ]
    with privilege_separation(), (tmp_path / "sshd.log").open("w") as log:
        sshd = subprocess.Popen([SSHD, "-D", "-e", "-f", config], stderr=log)
        try:
            wait_for(lambda: listens(port) or sshd.poll() is not None, "sshd listens")
            if sshd.poll() is not None:
                pytest.skip(f"sshd does not run here: {(tmp_path / 'sshd.log').read_text()}")
            yield HostPort("127.0.0.1", port), options
        finally:
            sshd.terminate()
            sshd.wait(10)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def run(*command: str | Path, stdin: bytes = b"") -> bytes:
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def test_ssh(suite: Suite, ssh_server: tuple[HostPort, list[str]], tmp_path: Path) -> None:
    address, options = ssh_server
    _, _, entry_point, entrance = suite.chain(address)
    user, port = getpass.getuser(), str(entrance.port)
    ssh: list[str | Path] = ["ssh", *options, "-p", port, f"{user}@127.0.0.1"]
    assert run(*ssh, "echo through the relay") == b"through the relay\n"

    # A session that is silent for six heartbeats, with bytes both ways around it.
    script = f"read word; sleep {IDLE_S}; echo $word after the silence"
    assert run(*ssh, script, stdin=b"word\n") == b"word after the silence\n"

    payload = os.urandom(32 * MIB)
    (tmp_path / "there").write_bytes(payload)
    assert run(*ssh, f"cat > {tmp_path / 'piped'}; sha256sum < {tmp_path / 'piped'}", stdin=payload)
    assert (tmp_path / "piped").read_bytes() == payload
    remote = f"{user}@127.0.0.1:{tmp_path}"
    run("scp", "-q", *options, "-P", port, tmp_path / "there", f"{remote}/copied")
    assert (tmp_path / "copied").read_bytes() == payload
    batch = f"get {tmp_path / 'copied'} {tmp_path / 'back'}\n".encode()
    run("sftp", "-q", *options, "-P", port, "-b", "-", f"{user}@127.0.0.1", stdin=batch)
    assert (tmp_path / "back").read_bytes() == payload
    entry_point.wait_metric("streams_open", lambda count: count == 0)
    assert entry_point.metric("streams_failed") == 0


# PostgreSQL


@pytest.fixture
def database() -> Iterator[HostPort]:
    """A PostgreSQL server of its own, on a port of its own, as a user who is not root."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or not shutil.which("psql"):
        pytest.skip("needs PostgreSQL's server and psql (Debian: postgresql)")
    programs = found[-1].parent
    user: str | None = None
    if os.geteuid() == 0:
        user = "postgres"
        try:
            account = pwd.getpwnam(user)
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="postgresql-") as name:
        if user:
            os.chown(name, account.pw_uid, account.pw_gid)
        data = Path(name, "data")
        subprocess.run(
            [programs / "initdb", "-A", "trust", "-U", "test", "--no-sync", "-D", data],
            user=user, cwd=name, stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", str(port), "-k", name, "-F",
             "-c", "listen_addresses=127.0.0.1"],
            user=user, cwd=name, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for(lambda: listens(port), "PostgreSQL listens")
            yield HostPort("127.0.0.1", port)
        finally:
            server.terminate()
            server.wait(20)


def test_postgresql(suite: Suite, database: HostPort) -> None:
    _, _, entry_point, entrance = suite.chain(database)
    url = f"postgresql://test@127.0.0.1:{entrance.port}/postgres?sslmode=disable"
    psql: list[str | Path] = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", url]
    script = (
        "create table rows as"
        " select g as id, md5(g::text) as text from generate_series(1, 200000) g;\n"
        f"select pg_sleep({IDLE_S});\n"
        "select count(*), sum(id) from rows;\n"
    )
    wait_for(lambda: try_query(psql), "PostgreSQL answers")
    assert run(*psql, stdin=script.encode()).split() == [b"200000|20000100000"]
    rows = run(*psql, "-c", "copy rows to stdout")
    digest = hashlib.sha256(rows).hexdigest()
    run(*psql, "-c", "create table copies (like rows)")
    run(*psql, "-c", "copy copies from stdin", stdin=rows)
    assert hashlib.sha256(run(*psql, "-c", "copy copies to stdout")).hexdigest() == digest
    assert rows.count(b"\n") == 200_000
    assert "outcome=lost" not in entry_point.log


def try_query(psql: list[str | Path]) -> bool:
    """Whether the server has finished starting: it listens earlier than it answers."""
    return (
        subprocess.run([*psql, "-c", "select 1"], capture_output=True, check=False).returncode == 0
    )
