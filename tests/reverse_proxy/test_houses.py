"""What a channel's opener may ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from common import frames
from common.addresses import HostPort
from common.errors import ProtocolError
from common.exposure_grammar import parse_exposures
from common.outcome import Outcome
from common.refusals import Refusal
from common.wire import Visit
from reverse_proxy.houses import Request, VisitorsHouse
from reverse_proxy.metrics import Metrics

EXPOSED = parse_exposures(
    ["80:127.0.0.1:8080,proxy-v2", "53:10.0.0.5:53/udp", "81:intranet:81"], ["app:169.254.1.1:80"]
)


@pytest.fixture
def house() -> Iterator[VisitorsHouse]:
    loop = asyncio.new_event_loop()
    yield VisitorsHouse(loop, Metrics(), dict(enumerate(EXPOSED, start=1)))
    loop.close()


def visit(exposure: int) -> bytes:
    asked = Visit(exposure, "192.0.2.1", 4711, "203.0.113.7", 80)
    return frames.encode_visit(asked)[frames.HEADER_SIZE :]


def test_a_visitor_reaches_what_was_exposed(house: VisitorsHouse) -> None:
    request = house.read(visit(1), b"")
    assert isinstance(request, Request)
    assert request.source == HostPort("192.0.2.1", 4711)
    assert request.entered_at == HostPort("203.0.113.7", 80)
    assert request.destination == HostPort("127.0.0.1", 8080)
    assert (request.protocol, request.inform) == ("tcp", "proxy-v2")
    assert request.judge("127.0.0.1", "127.0.0.1", 8080) is None


@pytest.mark.parametrize("number", [0, 5, 2**31])
def test_a_relay_that_makes_exposures_up_is_refused(house: VisitorsHouse, number: int) -> None:
    refusal = house.read(visit(number), b"")
    assert isinstance(refusal, Refusal)
    assert refusal.code == "unknown-exposure"


@pytest.mark.parametrize("payload", [b"", b"\x90", visit(1)[:-1]])
def test_a_visit_that_is_none_is_a_protocol_error(house: VisitorsHouse, payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        house.read(payload, b"")


def test_the_kind_says_what_the_stream_carries(house: VisitorsHouse) -> None:
    request = house.read(visit(2), b"")
    assert isinstance(request, Request)
    assert request.protocol == "udp"


def test_only_the_destination_itself_may_be_dialled(house: VisitorsHouse) -> None:
    request = house.read(visit(3), b"")
    assert isinstance(request, Request)
    assert request.judge("intranet", "192.168.1.5", 81) is None
    guarded = request.judge("intranet", "169.254.169.254", 81)
    assert guarded is not None
    assert guarded.code == "guarded-address"
    other = request.judge("elsewhere", "192.168.1.5", 81)
    assert other is not None
    assert other.code == "not-permitted"
    port = request.judge("intranet", "192.168.1.5", 82)
    assert port is not None


def test_a_guarded_address_that_was_exposed_by_itself_is_meant(house: VisitorsHouse) -> None:
    request = house.read(visit(4), b"")
    assert isinstance(request, Request)
    assert request.judge("169.254.1.1", "169.254.1.1", 80) is None


def test_failing_visitors_are_limited_in_the_log(house: VisitorsHouse) -> None:
    assert house.budget_key(Outcome.FINISHED) is None
    assert house.budget_key(Outcome.REFUSED)
