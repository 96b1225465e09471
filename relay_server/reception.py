"""The reception: takes strangers in, limits them, and hands on those that have logged in."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable

import anyio
import anyio.abc

from common.addresses import HostPort
from common.errors import DeniedError, LinkLost, PeerError
from common.logs import event
from common.process import descriptor_limit
from relay_server.admission import Admission, places, source_of
from relay_server.login import Admitted, Judge, login
from relay_server.metrics import Metrics
from relay_server.turns import Turns

log = logging.getLogger(__name__)


class Reception:
    """Everything between ``accept`` and a judged client.

    Args:
        context: the TLS context for links; may be replaced (a new certificate).
        judge: says who may come in.
        on_admitted: takes over a client that may.
        tasks: where logins run.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        judge: Judge,
        on_admitted: Callable[[Admitted, HostPort], None],
        metrics: Metrics,
        tasks: anyio.abc.TaskGroup,
    ) -> None:
        self.context = context
        self._judge = judge
        self._on_admitted = on_admitted
        self._metrics = metrics
        self._tasks = tasks
        self._strangers: Admission[anyio.CancelScope] = Admission(in_all=places(descriptor_limit()))
        self._turns = Turns()

    @property
    def strangers(self) -> int:
        """Connections that have not logged in yet."""
        return len(self._strangers)

    def accept(self, sock: socket.socket, address: HostPort) -> None:
        """Take over an accepted connection."""
        self._metrics.connections_accepted += 1
        scope = anyio.CancelScope()
        source = source_of(address.host)
        evicted = self._strangers.admit(scope, source)
        if evicted is not None:
            self._metrics.connections_evicted += 1
            evicted.cancel()
        self._tasks.start_soon(self._greet, sock, address, source, scope)

    async def _greet(
        self, sock: socket.socket, address: HostPort, source: str, scope: anyio.CancelScope
    ) -> None:
        try:
            with scope:
                admitted = await login(
                    sock,
                    address,
                    self.context,
                    self._judge,
                    lambda: self._strangers.spoke(scope, source),
                    self._turns,
                )
                self._on_admitted(admitted, address)
            if scope.cancelled_caught:
                raise LinkLost("evicted: too many strangers from this source")
        except DeniedError as error:
            self._metrics.links_denied += 1
            log_refused(address, error.code, str(error))
        except PeerError as error:
            self._metrics.logins_failed += 1
            log_refused(address, "no-login", str(error))
        except Exception as error:  # noqa: BLE001 - one stranger must not end everybody's relay
            event(
                log,
                logging.ERROR,
                "internal error in a login",
                budget_key="internal error in a login",
                client=str(address),
                exception=error,
            )
        finally:
            self._strangers.leave(scope, source)


def log_refused(address: HostPort, code: str, reason: str) -> None:
    """Tell that a client at ``address`` was turned away, and why; a flood is summed up."""
    event(
        log,
        logging.WARNING,
        "connection refused",
        budget_key=f"connection refused: {code}",
        client=str(address),
        code=code,
        reason=reason,
    )
