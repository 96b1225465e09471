"""Machines that a case makes for itself: network namespaces, joined by a router that can fail.

Each :class:`Site` is a network namespace with a name service of its own; a :class:`Net` joins them
through one more, so that what fails does so in the middle, as on the Internet. All of it lives as
long as processes that wait for the end of their input: nothing is left behind, even if the battery
is killed.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.battery.bench import Battery
from tests.battery.registry import Skipped
from tests.programs.harness import Program, Suite

T = TypeVar("T")

FILES = {
    "resolv.conf": "nameserver 127.0.0.1\n",
    "nsswitch.conf": "hosts: files dns\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
}
"""What a site has in /etc instead of this machine's: names are asked for on its own loopback."""

_CLONE_FS, _CLONE_NEWNS, _CLONE_NEWNET = 0x200, 0x20000, 0x40000000
_UNSHARE = ("unshare", "--net", "--mount", "--propagation", "private")
_MOUNT_AND_WAIT = (
    'for f in "$1"/*; do mount --bind "$f" /etc/"${f##*/}" || exit; done; echo; exec cat'
)


class Site:
    """A network namespace with its own name service.

    Attributes:
        v4, v6: its addresses, once it is joined to a net.
        port: what the router calls the cable to it.
    """

    def __init__(self, files: Path) -> None:
        self.v4 = self.v6 = self.port = ""
        files.mkdir()
        for name, text in FILES.items():
            (files / name).write_text(text)
        self._holder = subprocess.Popen(
            [*_UNSHARE, "sh", "-c", _MOUNT_AND_WAIT, "sh", str(files)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        if not self._holder.stdout.readline():
            reason = self._holder.stderr.read().decode().strip()
            self.close()
            raise Skipped(f"cannot make network namespaces here: {reason}")
        self.ip("link set lo up")

    @property
    def pid(self) -> int:
        """The process that keeps the namespace."""
        return self._holder.pid

    def run(self, call: Callable[[], T]) -> T:
        """Run ``call`` inside, in a thread of its own; sockets and processes it makes stay."""
        results: list[T] = []
        errors: list[BaseException] = []

        def enter_and_call() -> None:
            try:
                _enter(self.pid)
                results.append(call())
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                errors.append(error)

        thread = threading.Thread(target=enter_and_call)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def ip(self, *commands: str) -> None:
        """Run ``ip`` commands inside, in order."""
        for command in commands:
            done = self.run(
                lambda command=command: subprocess.run(  # type: ignore[misc]
                    ["ip", *command.split()], capture_output=True, text=True, check=False
                )
            )
            if done.returncode:
                raise OSError(f"ip {command}: {done.stderr.strip()}")

    def write(self, path: str, text: str) -> None:
        """Write to a file as it is seen inside, such as one of ``/proc/sys/net``."""
        self.run(lambda: Path(path).write_text(text))

    def close(self) -> None:
        """Let go of the namespace; it ends with the last process in it."""
        self._holder.communicate(timeout=10)


class Net:
    """Sites around one router, each on a cable (a subnet) of its own.

    Args:
        directory: where the sites' files go.
    """

    def __init__(self, directory: Path, *names: str) -> None:
        self.sites: dict[str, Site] = {}
        self._directory = directory
        self._repairs: list[tuple[Site, str]] = []
        self._stack = ExitStack()
        try:
            self.router = self._site("router")
            self.router.write("/proc/sys/net/ipv4/ip_forward", "1")
            self.router.write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
            self.router.write("/proc/sys/net/ipv6/conf/all/keep_addr_on_down", "1")
            for number, name in enumerate(names, 1):
                self._join(name, number)
        except OSError as error:
            self.close()
            raise Skipped(f"cannot make networks here: {error}") from None
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name: str) -> Site:
        return self.sites[name]

    def drop(
        self,
        source: Site,
        target: Site,
        families: tuple[int, ...] = (4, 6),
        how: str = "blackhole",
    ) -> None:
        """Lose every packet from ``source`` to ``target`` on the way.

        Args:
            families: 4, 6, or both.
            how: ``blackhole``, without a word, or ``unreachable``, with an ICMP message.
        """
        for family in families:
            rule = f"iif {source.port} to {target.v6 if family == 6 else target.v4}"
            self.router.ip(f"-{family} rule add {how} {rule}")
            self._repairs.append((self.router, f"-{family} rule del {rule}"))

    def part(self, one: Site, other: Site) -> None:
        """Lose every packet between the two."""
        self.drop(one, other)
        self.drop(other, one)

    def unplug(self, site: Site) -> None:
        """Pull the cable at the router: the site still believes in its own end."""
        self.router.ip(f"link set {site.port} down")
        self._repairs.append((self.router, f"link set {site.port} up"))

    def switch_off(self, site: Site) -> None:
        """Take the site's own interface down: it cannot even send, and knows."""
        site.ip("link set eth0 down")
        self._repairs += [
            (site, f"-6 route replace default via {_gateway(site, 6)}"),
            (site, f"route replace default via {_gateway(site, 4)}"),
            (site, "link set eth0 up"),
        ]

    def heal(self) -> None:
        """Undo all of it, the last first."""
        while self._repairs:
            site, command = self._repairs.pop()
            site.ip(command)

    def close(self) -> None:
        """Let go of all of it."""
        self._stack.close()

    def _site(self, name: str) -> Site:
        site = Site(self._directory / f"etc-{name}")
        self._stack.callback(site.close)
        return site

    def _join(self, name: str, number: int) -> None:
        site = self.sites[name] = self._site(name)
        site.v4, site.v6, site.port = f"10.77.{number}.2", f"fd77:{number}::2", f"port{number}"
        self.router.ip(
            f"link add {site.port} type veth peer name eth0 netns {site.pid}",
            f"addr add {_gateway(site, 4)}/24 dev {site.port}",
            f"addr add {_gateway(site, 6)}/64 dev {site.port} nodad",
            f"link set {site.port} up",
        )
        site.write("/proc/sys/net/ipv6/conf/eth0/keep_addr_on_down", "1")
        site.ip(
            f"addr add {site.v4}/24 dev eth0",
            f"addr add {site.v6}/64 dev eth0 nodad",
            "link set eth0 up",
            f"route add default via {_gateway(site, 4)}",
            f"-6 route add default via {_gateway(site, 6)}",
        )


class PlacedProgram(Program):
    """A program that runs at a site, and is watched there."""

    def __init__(self, site: Site, name: str, *args: str, **kwargs: Any) -> None:
        self.site = site
        site.run(lambda: Program.__init__(self, name, *args, **kwargs))

    def metrics(self) -> dict[str, float]:
        return self.site.run(super().metrics)


class PlacedSuite(Suite):
    """Starts programs at sites: each within ``with suite.at(site):``."""

    _site: Site | None = None

    @contextmanager
    def at(self, site: Site) -> Iterator[None]:
        """Start programs at ``site`` until the block ends."""
        self._site = site
        try:
            yield
        finally:
            self._site = None

    def start(self, name: str, *args: str, env: dict[str, str] | None = None) -> Program:
        assert self._site is not None, f"{name} has no site"
        program = PlacedProgram(self._site, name, *args, cwd=self.directory, env=env)
        self.programs.append(program)
        return program


@contextmanager
def networked(battery: Battery, *names: str) -> Iterator[tuple[Net, PlacedSuite]]:
    """Yield a net with sites of these names, and a suite that starts programs there.

    Raises:
        Skipped: this machine, or this user, cannot make network namespaces.
    """
    if os.geteuid() != 0:
        raise Skipped("needs root, to make network namespaces")
    for tool in ("ip", "unshare"):
        if shutil.which(tool) is None:
            raise Skipped(f"needs the program {tool}")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="battery-")))
        net = Net(directory, *names)
        stack.callback(net.close)
        suite = PlacedSuite(directory)
        stack.callback(suite.close)
        try:
            yield net, suite
        except BaseException:
            suite.tell()
            raise


def _gateway(site: Site, family: int) -> str:
    """Return the router's address on the cable to a site."""
    number = site.port.removeprefix("port")
    return f"fd77:{number}::1" if family == 6 else f"10.77.{number}.1"


def _enter(pid: int) -> None:
    """Move the calling thread into the namespaces of a process, for good."""
    libc = ctypes.CDLL(None, use_errno=True)

    def do(result: int) -> None:
        if result:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    do(libc.unshare(_CLONE_FS))  # or the whole process would have to move
    for name, kind in (("net", _CLONE_NEWNET), ("mnt", _CLONE_NEWNS)):
        fd = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            do(libc.setns(fd, kind))
        finally:
            os.close(fd)
