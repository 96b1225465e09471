"""Wires entry-point together: settings in, a running program, an orderly end.

The end: stop listening; tell sources that wait; close idle channels; let streams finish for the
grace; reset what is left.
"""

from __future__ import annotations

from typing import Final

import anyio

from common.client import keep_status, prepare, relays_of, summary
from common.metrics import serve_metrics
from common.pool import PoolSize
from common.routes import RouteTable
from common.service import Service, run_program
from common.tls import opener_context
from entry_point.entrance import Entrance
from entry_point.metrics import Metrics
from entry_point.opener import Opener
from entry_point.settings import EntryPointSettings

PROGRAM: Final = "entry-point"


def run(settings: EntryPointSettings) -> int:
    """Run until a signal ends it; return the exit status."""

    async def main(service: Service) -> None:
        await serve(settings, service)

    return run_program(PROGRAM, settings, main)


async def serve(settings: EntryPointSettings, service: Service) -> None:
    """Forward the sources of the route table until ``service`` is told to stop.

    Raises:
        UsageError: a setting does not fit; nothing is left open.
    """
    table = RouteTable.parse(settings.routes)
    relays = relays_of(settings.server_address)
    client, identity, partners = prepare(settings, PROGRAM)
    metrics = Metrics()
    opener = Opener(
        relays,
        client,
        opener_context(identity),
        size=PoolSize(settings.pool, settings.max_channels),
        linger_s=settings.pool_linger,
        wait_s=settings.wait,
        trusted=lambda key: partners.get(key) is not None,
        metrics=metrics,
    )
    entrance = Entrance(
        table,
        settings.bind,
        metrics=metrics,
        group=client.group,
        serve=opener.open,
        udp_idle_s=settings.udp_idle,
    )
    service.on_reload(partners.reload)
    service.on_reload(opener.reconsider)
    exporter = None
    if settings.metrics:
        gauges = {
            "channels_idle": ("Channels that are ready for a source.", lambda: opener.board.idle),
            "streams_open": ("Sources that have a channel.", lambda: opener.board.busy),
            "flows": ("Flows of datagrams.", lambda: entrance.flows),
            "sources_waiting": ("Sources that wait for a channel.", lambda: opener.board.waiting),
        }
        counters = {
            "logins": ("Links that a relay welcomed.", lambda: opener.logins),
            "failures": ("Dials, logins and pairs that failed.", lambda: opener.failures),
        }
        exporter = serve_metrics(settings.metrics, PROGRAM, metrics, gauges, counters)
    try:
        async with anyio.create_task_group() as tasks:
            for relay in opener.relays:
                tasks.start_soon(opener.run, relay)
            service.ready(summary(entrance.addresses, exporter))
            tasks.start_soon(keep_status, service, opener.status)
            await service.stopping.wait()
            entrance.close()
            opener.stop()
            try:
                with anyio.move_on_after(service.grace):
                    await opener.quiet()
            finally:  # a second signal cancels the wait
                opener.abort()
            tasks.cancel_scope.cancel()
    finally:
        entrance.close()
        if exporter is not None:
            exporter.close()
