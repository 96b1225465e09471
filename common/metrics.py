"""Counters for monitoring systems, in Prometheus' text format, without a cost on the hot path.

A program counts in the plain ``int`` fields of a dataclass; only when somebody asks are they read::

    @dataclass(slots=True)
    class Metrics:
        links_accepted: int = field(default=0, metadata={"help": "…", "kind": "counter"})
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from common.addresses import HostPort, parse_host_port
from common.errors import AddressError, SettingError

if TYPE_CHECKING:
    import threading
    from wsgiref.simple_server import WSGIServer

    from _typeshed import DataclassInstance
    from prometheus_client.core import Metric

Reading = tuple[str, Callable[[], float]]
"""A help text, and a function that tells the value now."""


class MetricsServer:
    """The endpoint while it runs.

    Attributes:
        address: what it is bound to, ``host:port``, with the real port when 0 was asked for.
    """

    def __init__(self, address: str, server: WSGIServer, thread: threading.Thread) -> None:
        self.address, self._server, self._thread = address, server, thread

    def close(self) -> None:
        """Stop serving. Takes up to half a second: call it after everything else has ended."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def serve_metrics(
    address: str,
    program: str,
    metrics: DataclassInstance,
    gauges: Mapping[str, Reading] | None = None,
    counters: Mapping[str, Reading] | None = None,
) -> MetricsServer:
    """Serve ``http://address/metrics`` from a thread of its own until it is closed.

    It serves anybody who can connect, without a password: bind it to a private address.

    Args:
        address: ``host:port``; port 0 takes a free one.
        program: gives the prefix: ``relay-server`` -> ``relay_server_links_accepted_total``.
        metrics: a dataclass; each field's metadata has ``help`` and ``kind`` (``counter``, which
            gets ``_total``, or ``gauge``).
        gauges: more gauges by name. They are called in the server's thread: only read.
        counters: more counters by name, likewise.

    Raises:
        SettingError: the address is malformed, or cannot be bound.
    """
    # Half of the memory that --metrics costs is this import.
    from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

    try:
        wanted = parse_host_port(address, lowest=0)
    except AddressError as error:
        raise SettingError(f"--metrics: {error}") from error
    registry = CollectorRegistry()
    gauges = {**(gauges or {}), **_tasks_gauge()}
    registry.register(_Collector(program.replace("-", "_"), metrics, gauges, counters or {}))
    ProcessCollector(registry=registry)
    try:
        server, thread = start_http_server(wanted.port, wanted.host, registry)
    except OSError as error:
        raise SettingError(
            f"--metrics: cannot listen on {wanted}: {error.strerror or error};"
            " choose another address or port"
        ) from error
    bound = HostPort(str(server.server_address[0]), server.server_address[1])
    return MetricsServer(str(bound), server, thread)


def _tasks_gauge() -> dict[str, Reading]:
    """Return the gauge of a program that serves from within its loop."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return {}
    return {"tasks": ("Tasks of the event loop.", lambda: len(asyncio.all_tasks(loop)))}


class _Collector:
    def __init__(
        self,
        prefix: str,
        metrics: DataclassInstance,
        gauges: Mapping[str, Reading],
        counters: Mapping[str, Reading],
    ) -> None:
        self._prefix, self._metrics = prefix, metrics
        self._gauges, self._counters = gauges, counters

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for field in dataclasses.fields(self._metrics):
            counter = field.metadata["kind"] == "counter"
            family = CounterMetricFamily if counter else GaugeMetricFamily
            value = getattr(self._metrics, field.name)
            yield family(f"{self._prefix}_{field.name}", field.metadata["help"], value=value)
        for name, (text, read) in self._gauges.items():
            yield GaugeMetricFamily(f"{self._prefix}_{name}", text, value=read())
        for name, (text, read) in self._counters.items():
            yield CounterMetricFamily(f"{self._prefix}_{name}", text, value=read())
