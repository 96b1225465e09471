"""A destination of datagrams: ``python -m benchmarks.load.echo`` sends back what comes."""

from __future__ import annotations

import socket
from contextlib import suppress


def main() -> None:
    """Say where it listens, and serve until it is killed."""
    buffer = bytearray(65536)
    view = memoryview(buffer)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        host, port = sock.getsockname()
        print(f"echo ready {host}:{port}", flush=True)
        while True:
            count, source = sock.recvfrom_into(buffer)
            with suppress(OSError):
                sock.sendto(view[:count], source)


if __name__ == "__main__":
    main()
