import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.request import urlopen

import pytest

from common.errors import SettingError
from common.metrics import MetricsServer, serve_metrics


@dataclass(slots=True)
class Metrics:
    links_accepted: int = field(default=0, metadata={"help": "Links taken.", "kind": "counter"})
    links_open: int = field(default=0, metadata={"help": "Links now.", "kind": "gauge"})


@contextmanager
def serving(address: str, metrics: Metrics) -> Iterator[MetricsServer]:
    pairs = [1, 2, 3]
    server = serve_metrics(
        address, "relay-server", metrics, {"pairs": ("Pairs now.", lambda: len(pairs))}
    )
    try:
        yield server
    finally:
        server.close()


def scrape(server: MetricsServer) -> list[str]:
    with urlopen(f"http://{server.address}/metrics", timeout=10) as reply:
        return str(reply.read().decode()).splitlines()


def test_counters_and_gauges_are_read_when_asked() -> None:
    metrics = Metrics()
    with serving("127.0.0.1:0", metrics) as server:
        metrics.links_accepted += 7
        metrics.links_open = 2
        lines = scrape(server)
        assert "# HELP relay_server_links_accepted_total Links taken." in lines
        assert "# TYPE relay_server_links_accepted_total counter" in lines
        assert "relay_server_links_accepted_total 7.0" in lines
        assert "# TYPE relay_server_links_open gauge" in lines
        assert "relay_server_links_open 2.0" in lines
        assert "relay_server_pairs 3.0" in lines
        assert any(line.startswith("process_resident_memory_bytes ") for line in lines)
        metrics.links_accepted += 1
        assert "relay_server_links_accepted_total 8.0" in scrape(server)


def test_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with serving("[::1]:0", Metrics()) as server:
        assert server.address.startswith("[::1]:")
        assert "relay_server_links_open 0.0" in scrape(server)


def test_closing_frees_the_port() -> None:
    with serving("127.0.0.1:0", Metrics()) as server:
        address = server.address
    with serving(address, Metrics()) as again:
        assert again.address == address


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (":9100", "--metrics: no host in ':9100'; write host:port, such as localhost:4433"),
        (
            "127.0.0.1:http",
            "--metrics: not a port: 'http'; write a number from 0 to 65535",
        ),
    ],
)
def test_bad_addresses(address: str, message: str) -> None:
    with pytest.raises(SettingError) as caught:
        serve_metrics(address, "relay-server", Metrics())
    assert str(caught.value) == message


def test_an_address_that_cannot_be_bound() -> None:
    with (
        serving("127.0.0.1:0", Metrics()) as server,
        pytest.raises(SettingError, match=f"cannot listen on {server.address}: Address already"),
    ):
        serve_metrics(server.address, "relay-server", Metrics())
    with pytest.raises(SettingError, match=r"cannot listen on 192\.0\.2\.1:0: .*; choose another"):
        serve_metrics("192.0.2.1:0", "relay-server", Metrics())
