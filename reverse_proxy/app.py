"""Wires reverse-proxy together: settings in, a running program, an orderly end.

The end: close pending links; ask the openers to leave; let streams finish for the grace; reset
what is left.
"""

from __future__ import annotations

from typing import Final

import anyio

from common.client import keep_status, prepare, relays_of, summary
from common.link_pool import LinkPool
from common.metrics import serve_metrics
from common.pool import PoolSize
from common.service import Service, run_program
from common.tls import acceptor_context
from reverse_proxy.acceptor import Acceptor
from reverse_proxy.metrics import Metrics
from reverse_proxy.policy import Policy
from reverse_proxy.settings import ReverseProxySettings

PROGRAM: Final = "reverse-proxy"


def run(settings: ReverseProxySettings) -> int:
    """Run until a signal ends it; return the exit status."""

    async def main(service: Service) -> None:
        await serve(settings, service)

    return run_program(PROGRAM, settings, main)


async def serve(settings: ReverseProxySettings, service: Service) -> None:
    """Answer streams until ``service`` is told to stop.

    Raises:
        UsageError: a setting does not fit; nothing is left open.
    """
    policy = Policy.from_list(list(settings.allow))
    relays = relays_of(settings.server_address)
    client, identity, partners = prepare(settings, PROGRAM)
    metrics = Metrics()
    acceptor = Acceptor(
        relays,
        client,
        acceptor_context(identity),
        size=PoolSize(settings.pool, settings.max_channels),
        linger_s=settings.pool_linger,
        policy=policy,
        partners=partners,
        metrics=metrics,
    )
    service.on_reload(partners.reload)
    service.on_reload(acceptor.reconsider)
    exporter = None
    if settings.metrics:
        gauges = {
            "channels": ("Channels, idle and busy.", lambda: acceptor.channels),
            "links_pending": ("Links dialled or waiting for a partner.", lambda: acceptor.pending),
        }
        counters = {
            "logins": ("Links that a relay welcomed.", lambda: acceptor.logins),
            "failures": ("Dials, logins and pairs that failed.", lambda: acceptor.failures),
        }
        exporter = serve_metrics(settings.metrics, PROGRAM, metrics, gauges, counters)
    try:
        async with anyio.create_task_group() as tasks:
            for relay in acceptor.relays:
                tasks.start_soon(acceptor.run, relay)
            tasks.start_soon(keep_status, service, acceptor.status)
            tasks.start_soon(_announce, service, acceptor, summary(relays, exporter))
            await service.stopping.wait()
            acceptor.stop()
            try:
                with anyio.move_on_after(service.grace):
                    await acceptor.quiet()
            finally:  # a second signal cancels the wait
                acceptor.abort()
            tasks.cancel_scope.cancel()
    finally:
        if exporter is not None:
            exporter.close()


async def _announce(service: Service, acceptor: Acceptor, text: str) -> None:
    """Say that the program is ready as soon as one relay has welcomed it."""
    async with anyio.create_task_group() as tasks:

        async def watch(pool: LinkPool) -> None:
            await pool.first_login.wait()
            tasks.cancel_scope.cancel()

        for relay in acceptor.relays:
            tasks.start_soon(watch, relay.pool)
    service.ready(text)
