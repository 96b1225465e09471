"""OpenSSH: ``ssh -R`` and ``ssh -L``, both programs with their default settings."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from benchmarks.processes import find_program, free_ports
from benchmarks.systems.base import System


class Ssh(System):
    """A server of its own and a client, one connection between them for all streams."""

    def _connect(self, *forward: str) -> None:
        """Start both; ``forward`` is what the client is asked for."""
        room = self.place.room(self.name)
        sshd, ssh = find_program("sshd"), find_program("ssh")
        keygen = find_program("ssh-keygen")
        if os.geteuid() == 0:  # where a server that drops its privileges wants to live
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for name in ("host", "user"):
            subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", room / name], check=True)
        (port,) = free_ports(1)
        config = room / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {room / 'host'}\nPidFile none\n"
            f"AuthorizedKeysFile {room / 'user.pub'}\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        )
        self.relay = self.run("sshd", [sshd, "-D", "-e", "-f", config], room)
        self.relay.wait_listening(port)
        (room / "known").write_text(f"server {(room / 'host.pub').read_text()}")
        host, near = self.between(("127.0.0.1", port))
        options = ("HostKeyAlias=server", "BatchMode=yes", "ExitOnForwardFailure=yes")
        self._client = self.run(
            "ssh",
            [
                *(ssh, "-N", "-F", "none", "-i", room / "user", "-p", str(near)),
                *("-o", f"UserKnownHostsFile={room / 'known'}"),
                *(word for each in options for word in ("-o", each)),
                *(*forward, host),
            ],
            room,
        )


class SshReverse(Ssh):
    """Client -> sshd -> SSH -> ssh -> destination."""

    name = "ssh-R"
    title = "ssh -R"
    security = "relay can read; both authenticated"

    def start(self) -> None:
        """Let the server listen."""
        (public,) = free_ports(1)
        host, target = self.place.destination
        self._connect("-R", f"127.0.0.1:{public}:{host}:{target}")
        self._client.wait_listening(public)
        self.open_to_visitors(public)


class SshLocal(Ssh):
    """Client -> ssh -> SSH -> sshd -> destination."""

    name = "ssh-L"
    title = "ssh -L"
    security = "server can read; both authenticated"

    def start(self) -> None:
        """Let the client listen."""
        (local,) = free_ports(1)
        host, target = self.place.destination
        self._connect("-L", f"127.0.0.1:{local}:{host}:{target}")
        self._client.wait_listening(local)
        self.address = ("127.0.0.1", local)
