"""Wires relay-server together: settings in, a running program, an orderly end.

The end: stop accepting; tell the pending links; let pairs finish for the grace; reset the rest.
SIGHUP reads the trusted keys and the certificate again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

import anyio

from common.addresses import HostPort, parse_host
from common.certificate_files import date_trouble
from common.client import summary
from common.errors import AddressError, SettingError
from common.forwarding import choose_forwarder
from common.key_files import check_private
from common.logs import event
from common.metrics import serve_metrics
from common.service import Service, run_program
from common.sockets import listen
from common.tls import relay_context
from common.trusted_keys import TrustedKey
from common.trusted_keys_file import load_trusted_keys
from relay_server.clients import Clients
from relay_server.http.certificates import Certificates
from relay_server.metrics import Metrics
from relay_server.public.door import Services
from relay_server.public.side import PublicConfig, PublicSide
from relay_server.relay import Relay
from relay_server.settings import OFF, RelaySettings

log = logging.getLogger(__name__)

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
    warn_of_dates(settings.server_cert)
    keys = load_trusted_keys(settings.auth_public_key)
    check_public_side(settings)
    certificates = Certificates.of(settings.https_cert, settings.https_key)
    loop = asyncio.get_running_loop()
    metrics = Metrics()
    make_forwarder, pipes = choose_forwarder(settings.forwarder, loop, metrics)
    exporter = relay = None
    try:
        async with anyio.create_task_group() as tasks:
            config = PublicConfig(
                host=settings.public_host or settings.host,
                domain=settings.domain,
                http=settings.http_port != OFF,
                https=settings.https_port != OFF,
                reserve_s=settings.reserve,
                max_visitors=settings.max_visitors,
                certificates=certificates,
                udp_idle_s=settings.udp_idle,
            )

            def public(
                clients: Clients, trusted: Callable[[bytes], TrustedKey | None]
            ) -> PublicSide:
                return PublicSide(
                    config,
                    trusted=trusted,
                    clients=clients,
                    heartbeat_s=settings.heartbeat,
                    make_forwarder=make_forwarder,
                    metrics=metrics,
                )

            relay = Relay(
                context,
                keys,
                settings.auth_public_key,
                heartbeat_s=settings.heartbeat,
                make_forwarder=make_forwarder,
                public=public,
                metrics=metrics,
                tasks=tasks,
            )

            def reload() -> None:
                check_private(settings.server_key)
                context = relay_context(settings.server_cert, settings.server_key)
                relay.set_keys(load_trusted_keys(settings.auth_public_key))
                relay.reception.context = context
                warn_of_dates(settings.server_cert)

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
                    "exposures": (
                        "Exposures that are held, of tenants that are away as well.",
                        lambda: relay.public.exposures,
                    ),
                    "tenants_present": (
                        "Reverse-proxies with exposures that are connected.",
                        lambda: relay.public.tenants_present,
                    ),
                    "visitors": (
                        "Visitors that are served, or wait.",
                        lambda: relay.public.guide.visitors,
                    ),
                    "pipes_lent": ("Pipes with bytes in them.", lambda: pipes.lent),
                }
                exporter = serve_metrics(settings.metrics, PROGRAM, metrics, gauges)
            addresses = open_doors(settings, relay)
            tasks.start_soon(relay.watch)
            service.ready(summary(addresses, exporter))
            await service.stopping.wait()
            relay.stop()
            try:
                with anyio.move_on_after(service.grace):
                    await relay.quiet()
            finally:  # a second signal cancels the wait
                relay.abort()
            tasks.cancel_scope.cancel()
    finally:
        if relay is not None:
            relay.public.ports.close()
        if exporter is not None:
            exporter.close()
        pipes.close()


def warn_of_dates(certificate: str) -> None:
    """Say so if clients will refuse the certificate for its dates: a new one may be on its way."""
    trouble = date_trouble(certificate, datetime.now(UTC))
    if trouble:
        event(
            log,
            logging.WARNING,
            "clients refuse this certificate",
            file=certificate,
            reason=f"{trouble}; make a new one: gen-cert x509 --force",
        )


def open_doors(settings: RelaySettings, relay: Relay) -> list[HostPort]:
    """Listen for clients and, where that is asked for, for host names; return the addresses.

    Raises:
        SettingError: a port cannot be bound.
    """
    public = relay.public
    public.guide.accept_client = relay.reception.accept
    doors = [public.ports.stand(settings.host, settings.port, Services(tunnel=True))]
    if settings.http_port != OFF:
        doors.append(public.ports.stand(public.ports.host, settings.http_port, Services(http=True)))
    if settings.https_port != OFF:
        doors.append(
            public.ports.stand(public.ports.host, settings.https_port, Services(https=True))
        )
    return list(dict.fromkeys(doors))


def check_public_side(settings: RelaySettings) -> None:
    """Look at what would show only when a reverse-proxy asks for something.

    Raises:
        SettingError: a setting does not fit; the message names it.
    """
    if settings.domain:
        try:
            name = parse_host(settings.domain)
        except AddressError as error:
            raise SettingError(f"--domain: {error}") from None
        if name.replace(".", "").isdecimal() or ":" in name:
            raise SettingError(f"--domain: {name} is an address; write a name such as example.org")
    served = (settings.http_port, settings.https_port) != (OFF, OFF)
    if settings.domain and not served:
        raise SettingError("--domain: no names are served; add --http-port or --https-port")
    if settings.https_cert and settings.https_port == OFF:
        raise SettingError("--https-cert: nothing is served over TLS; add --https-port")
    if settings.public_host not in ("", "*"):
        listen(settings.public_host, 0).close()
