"""Wires relay-server together: settings in, a running program, an orderly end.

The end: stop accepting; tell the pending links; let pairs finish for the grace; reset the rest.
SIGHUP reads the trusted keys and the certificate again.
"""

from __future__ import annotations

import asyncio

import anyio

from common.client import summary
from common.forwarding import choose_forwarder
from common.key_files import check_private
from common.listener import Listener
from common.metrics import serve_metrics
from common.service import Service, run_program
from common.sockets import listen
from common.tls import relay_context
from common.trusted_keys_file import load_trusted_keys
from relay_server.metrics import Metrics
from relay_server.relay import Relay
from relay_server.settings import RelaySettings

PROGRAM = "relay-server"


def run(settings: RelaySettings) -> int:
    """Run until a signal ends it; return the exit status."""

    async def main(service: Service) -> None:
        await serve(settings, service)

    return run_program(PROGRAM, settings, main)


async def serve(settings: RelaySettings, service: Service) -> None:
    """Relay until ``service`` is told to stop.

    Raises:
        UsageError: a setting does not fit; nothing is left open.
    """
    check_private(settings.server_key)
    context = relay_context(settings.server_cert, settings.server_key)
    keys = load_trusted_keys(settings.auth_public_key)
    loop = asyncio.get_running_loop()
    metrics = Metrics()
    make_forwarder, pipes = choose_forwarder(settings.forwarder, loop, metrics)
    exporter = listener = None
    try:
        async with anyio.create_task_group() as tasks:
            relay = Relay(
                context,
                keys,
                settings.auth_public_key,
                heartbeat_s=settings.heartbeat,
                make_forwarder=make_forwarder,
                metrics=metrics,
                tasks=tasks,
            )

            def reload() -> None:
                check_private(settings.server_key)
                context = relay_context(settings.server_cert, settings.server_key)
                relay.set_keys(load_trusted_keys(settings.auth_public_key))
                relay.reception.context = context

            service.on_reload(reload)
            if settings.metrics:
                gauges = {
                    "strangers": (
                        "Connections not logged in yet.",
                        lambda: relay.reception.strangers,
                    ),
                    "links_pending": ("Links waiting for a partner.", lambda: relay.pending),
                    "clients": ("Client processes that are connected.", lambda: relay.clients),
                    "pairs_open": ("Pairs that are joined.", lambda: relay.pairs),
                    "pipes_lent": ("Pipes with bytes in them.", lambda: pipes.lent),
                }
                exporter = serve_metrics(settings.metrics, PROGRAM, metrics, gauges)
            listener = Listener(loop, listen(settings.host, settings.port), relay.reception.accept)
            tasks.start_soon(relay.watch)
            service.ready(summary([listener.address], exporter))
            await service.stopping.wait()
            listener.close()
            relay.stop()
            try:
                with anyio.move_on_after(service.grace):
                    await relay.quiet()
            finally:  # a second signal cancels the wait
                relay.abort()
            tasks.cancel_scope.cancel()
    finally:
        if listener is not None:
            listener.close()
        if exporter is not None:
            exporter.close()
        pipes.close()
