"""OpenSSH: a port that ``ssh -R`` opens at the server, with both programs' default settings."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from benchmarks.processes import UnavailableError, find_program, free_ports
from benchmarks.systems.base import System


class SshReverse(System):
    """Client -> sshd -> SSH -> ssh -> destination."""

    name = "ssh-R"
    title = "ssh -R"
    security = "both authenticated, server can read"

    def start(self) -> None:
        """Start a server of its own, and a client."""
        room = self.place.room(self.name)
        sshd, ssh = find_program("sshd"), find_program("ssh")
        keygen = find_program("ssh-keygen")
        if os.geteuid() == 0 and not Path("/run/sshd").is_dir():
            raise UnavailableError("sshd wants the directory /run/sshd")
        for name in ("host", "user"):
            subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", room / name], check=True)
        port, public = free_ports(2)
        config = room / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {room / 'host'}\nPidFile none\n"
            f"AuthorizedKeysFile {room / 'user.pub'}\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        )
        self.run("sshd", [sshd, "-D", "-e", "-f", config], room).wait_listening(port)
        (room / "known").write_text(f"[127.0.0.1]:{port} {(room / 'host.pub').read_text()}")
        host, target = self.place.destination
        self.run(
            "ssh",
            [
                *(ssh, "-N", "-F", "none", "-i", room / "user", "-p", str(port)),
                *("-o", f"UserKnownHostsFile={room / 'known'}", "-o", "BatchMode=yes"),
                *("-R", f"127.0.0.1:{public}:{host}:{target}", "127.0.0.1"),
            ],
            room,
        ).wait_listening(public)
        self.address = ("127.0.0.1", public)
