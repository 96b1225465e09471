"""A reverse-proxy that the relay trusts and that says what it likes, beside an honest one."""

from __future__ import annotations

import os
import ssl
import time
from dataclasses import dataclass

from common.addresses import HostPort
from common.wire import VERSION, Expose, Exposed, Hello, Message, Ping, Purpose, Unexposed, Welcome
from tests.programs.evil_client import EvilClient, dial, receive, send
from tests.programs.harness import Program, Suite, wait_for
from tests.programs.test_exposures import heard


class EvilTenant:
    """A reverse-proxy that the relay trusts, and that says what it likes."""

    def __init__(self, stage: Stage) -> None:
        self._suite, self._relay = stage.suite, stage.relay
        self.instance = os.urandom(16)
        self.links: list[EvilClient] = []
        self.control = self.link("exposures")

    def verdict(self, purpose: Purpose) -> tuple[EvilClient, Message | None]:
        client = dial(self._suite, self._relay)
        self.links.append(client)
        hello = Hello([VERSION], "reverse-proxy", "0", self.instance, "evil", purpose)
        send(client.tls, hello)
        return client, receive(client.tls)

    def link(self, purpose: Purpose) -> ssl.SSLSocket:
        client, verdict = self.verdict(purpose)
        assert isinstance(verdict, Welcome), verdict
        if purpose != "exposures":
            send(self.control, Ping())  # or it would soon be taken for dead
        return client.tls

    def ask(self, *asked: Expose) -> list[Exposed | Unexposed]:
        """Return the relay's answers, DEMAND left out."""
        send(self.control, *asked)
        found: list[Exposed | Unexposed] = []
        while len(found) < len(asked):
            message = receive(self.control)
            assert message is not None
            if isinstance(message, Exposed | Unexposed):
                found.append(message)
        return found

    def expose(self, *, raw: bool = False) -> HostPort:
        """Expose a free port, number 1, and return it."""
        (answer,) = self.ask(Expose(1, "tcp", "", 0, raw=raw))
        assert isinstance(answer, Exposed), answer
        return HostPort("127.0.0.1", answer.port)

    def __enter__(self) -> EvilTenant:
        return self

    def __exit__(self, *_: object) -> None:
        for link in self.links:
            link.close()


@dataclass(frozen=True)
class Stage:
    """A relay, and an honest tenant with a key of its own that has exposed ``port`` there."""

    suite: Suite
    relay: Program
    port: HostPort

    def is_served(self) -> float:
        """Be served by the honest tenant and return how many seconds it took."""
        began = time.monotonic()
        assert heard(self.port) == b"hello"
        return time.monotonic() - began

    def settled(self, descriptors: int) -> None:
        """Wait until what an evil tenant had is given back."""
        self.relay.wait_metric("exposures", lambda count: count == 3)
        self.relay.wait_metric("visitors", lambda count: count == 0)
        wait_for(lambda: self.relay.descriptors() <= descriptors, "descriptors are given back")
        self.is_served()
