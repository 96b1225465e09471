"""The grounds on which systems are started: a destination for each variant, made when needed."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks.processes import Process, find_program, free_ports
from benchmarks.systems.base import ROOT, Address, Place, python_module, to_address

ONE_WAY_S: Final = 0.025
"""Half of the simulated path of 50 ms."""

_DESTINATIONS: Final = {
    "plain": "destination",
    "far": "destination",
    "crowd": "hall",
    "udp": "echo",
}
"""The module of ``benchmarks.load`` that serves a variant; ``web`` has nginx."""

_NGINX = """\
daemon off; worker_processes 1; pid {room}/nginx.pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {room}/a; proxy_temp_path {room}/b; fastcgi_temp_path {room}/c;
  uwsgi_temp_path {room}/d; scgi_temp_path {room}/e;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{ return 200 hello; }}
    location = /status {{ stub_status; }}
  }}
}}
"""


class Grounds:
    """Makes places; what it starts ends with the stack.

    Args:
        directory: for all that is written.
        crowd: numbers of idle connections that memory is measured with.
    """

    def __init__(self, directory: Path, stack: ExitStack, crowd: tuple[int, ...]) -> None:
        self._directory = directory
        self._stack = stack
        self._crowd = crowd
        self._destinations: dict[str, Address] = {}
        _make_keys(directory)

    def place(self, variant: str) -> Place:
        """Return the place for a variant.

        Raises:
            UnavailableError: its destination is not installed.
        """
        return Place(
            self._directory,
            variant,
            self._destination(_DESTINATIONS.get(variant, "web")),
            delay_s=ONE_WAY_S if variant == "far" else 0.0,
            crowd=self._crowd if variant == "crowd" else (),
        )

    def _destination(self, name: str) -> Address:
        if name not in self._destinations:
            start = self._web if name == "web" else self._load
            self._destinations[name] = start(name)
        return self._destinations[name]

    def _load(self, name: str) -> Address:
        command = python_module(f"benchmarks.load.{name}")
        process = Process(name, command, self._directory, {"PYTHONPATH": str(ROOT)})
        self._stack.callback(process.close)
        return to_address(process.wait_ready())

    def _web(self, name: str) -> Address:
        program = find_program("nginx")
        find_program("wrk")  # without it there is nobody to ask for anything
        room = self._directory / name
        room.mkdir()
        (port,) = free_ports(1)
        config = room / "nginx.conf"
        config.write_text(_NGINX.format(room=room, port=port))
        server = Process("nginx", [program, "-c", config, "-p", room], room)
        self._stack.callback(server.close)
        server.wait_listening(port)
        return "127.0.0.1", port


def _make_keys(directory: Path) -> None:
    """Make what this suite's programs, and the peers' TLS servers, identify themselves by."""
    for arguments in (["x509", "--dns", "localhost", "--ip", "127.0.0.1"], ["ed25519"]):
        subprocess.run(
            [*python_module("gen_cert"), *arguments],
            cwd=directory,
            env={"PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
        )
