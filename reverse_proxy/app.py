"""Wires reverse-proxy together: settings in, a running program, an orderly end.

The end: close pending links; ask the openers to leave; let streams finish for the grace; reset
what is left.
"""

from __future__ import annotations

import asyncio
from typing import Final

import anyio

from common.client import keep_status, prepare, relays_of, summary
from common.exposure_grammar import parse_exposures
from common.forwarding import choose_forwarder
from common.metrics import serve_metrics
from common.pool import PoolSize
from common.service import Service, run_program
from common.tls import acceptor_context
from reverse_proxy.acceptor import Acceptor
from reverse_proxy.informing import Informer
from reverse_proxy.metrics import Metrics
from reverse_proxy.policy import Policy
from reverse_proxy.public_side import PublicSide
from reverse_proxy.settings import ReverseProxySettings
from reverse_proxy.visitors_file import VisitorsFile

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
    exposures = dict(
        enumerate(parse_exposures(settings.expose, settings.http, settings.https), start=1)
    )
    relays = relays_of(settings.server_address)
    client, identity, partners = prepare(settings, PROGRAM)
    metrics = Metrics()
    visitors = VisitorsFile(settings.visitors_file)
    informer = Informer(visitors)
    size = PoolSize(settings.pool, settings.max_channels)
    loop = asyncio.get_running_loop()
    raw = any(each.raw for each in exposures.values())
    make_forwarder, pipes = choose_forwarder("auto" if raw else "copy", loop, metrics)
    acceptor = Acceptor(
        relays,
        client,
        acceptor_context(identity),
        size=size,
        linger_s=settings.pool_linger,
        policy=policy,
        partners=partners,
        informer=informer,
        metrics=metrics,
    )
    sides = [
        PublicSide(
            relay,
            client,
            exposures,
            hold_s=settings.hold,
            size=size,
            linger_s=settings.pool_linger,
            informer=informer,
            make_forwarder=make_forwarder,
            metrics=metrics,
        )
        for relay in (relays if exposures else ())
    ]
    service.on_reload(partners.reload)
    service.on_reload(acceptor.reconsider)
    exporter = None
    if settings.metrics:
        gauges = {
            "channels": ("Channels, idle and busy.", lambda: acceptor.channels),
            "visitor_channels": (
                "Channels for visitors, idle and busy, and raw streams.",
                lambda: sum(each.channels for each in sides),
            ),
            "exposures": (
                "Exposures that are public now.",
                lambda: sum(len(each.exposer.public) for each in sides),
            ),
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
            for side in sides:
                tasks.start_soon(side.run)
            tasks.start_soon(visitors.keep)
            tasks.start_soon(keep_status, service, acceptor.status)
            tasks.start_soon(_announce, service, acceptor, sides, summary(relays, exporter))
            await service.stopping.wait()
            acceptor.stop()
            for side in sides:
                side.stop()
            try:
                with anyio.move_on_after(service.grace):
                    await acceptor.quiet()
                    for side in sides:
                        await side.quiet()
            finally:  # a second signal cancels the wait
                acceptor.abort()
                for side in sides:
                    side.abort()
            tasks.cancel_scope.cancel()
    finally:
        visitors.save()
        pipes.close()
        if exporter is not None:
            exporter.close()


async def _announce(
    service: Service, acceptor: Acceptor, sides: list[PublicSide], text: str
) -> None:
    """Say that the program is ready as soon as one relay has welcomed it and answered."""
    async with anyio.create_task_group() as tasks:

        async def watch(event: anyio.Event) -> None:
            await event.wait()
            tasks.cancel_scope.cancel()

        if sides:
            for side in sides:
                tasks.start_soon(watch, side.exposer.answered)
        else:
            for relay in acceptor.relays:
                tasks.start_soon(watch, relay.pool.first_login)
    service.ready(", ".join([text, *(each for side in sides for each in side.public())]))
