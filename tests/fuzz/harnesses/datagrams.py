"""Datagrams: the queue and the table of flows against plain models, and frames of datagrams."""

from __future__ import annotations

from typing import Final

from common import frames
from common.datagram_queue import DatagramQueue
from common.flow_table import FlowTable

MOST_BYTES: Final = 200
MOST_FLOWS: Final = 4
IDLE_S: Final = 40.0
# Pairs of bytes: what to do, and with what.
SEEDS: Final = (
    bytes((0, 50, 0, 60, 1, 9, 0, 99, 2, 0, 0, 5, 3, 0)),
    bytes((4, 1, 4, 2, 4, 1, 4, 3, 4, 4, 4, 5, 5, 2, 6, 1, 7, 30, 4, 2, 7, 30, 8, 0)),
    bytes((9, 7, 1, 200, 1, 200, 0, 1, 0, 255)),
)
WORDS: Final = tuple(bytes((kind, 1)) for kind in range(10))


class Queue:
    """The queue and its model."""

    def __init__(self) -> None:
        self.real = DatagramQueue(MOST_BYTES)
        self.model: list[tuple[bytes, bool]] = []
        self.dropped = 0
        self.put_in = 0

    def put(self, size: int, *, datagram: bool) -> None:
        frame = bytes([self.put_in & 255]) * size
        self.put_in += 1
        self.real.put(frame, datagram=datagram)
        self.model.append((frame, datagram))
        while sum(len(each) for each, _ in self.model) > MOST_BYTES:
            found = next((at for at, each in enumerate(self.model) if each[1]), None)
            if found is None:
                break
            del self.model[found]
            self.dropped += 1

    def compare(self) -> None:
        assert len(self.real) == len(self.model)
        assert self.real.dropped == self.dropped

    def take(self) -> None:
        assert self.real.take() == b"".join(each for each, _ in self.model)
        self.model.clear()

    def clear(self) -> None:
        self.real.clear()
        self.model.clear()


class Flows:
    """The table and its model: number, source and last use of each flow, in the order of use."""

    def __init__(self) -> None:
        self.real: FlowTable[int] = FlowTable(MOST_FLOWS)
        self.model: list[tuple[int, int, float]] = []
        self.last = 0
        self.now = 1000.0

    def arrive(self, source: int) -> None:
        known = next((each for each in self.model if each[1] == source), None)
        assert (source in self.real) == (known is not None)
        if known is not None:
            assert self.real.number(source, self.now) == (known[0], False, 0)
            self.model.remove(known)
            self.model.append((known[0], source, self.now))
            return
        evicted = self.model.pop(0)[0] if len(self.model) == MOST_FLOWS else 0
        self.last += 1
        self.model.append((self.last, source, self.now))
        assert self.real.number(source, self.now) == (self.last, True, evicted)

    def use(self, number: int) -> None:
        known = next((each for each in self.model if each[0] == number), None)
        assert self.real.use(number, self.now) == (None if known is None else known[1])
        if known is not None:
            self.model.remove(known)
            self.model.append((number, known[1], self.now))

    def remove(self, number: int) -> None:
        kept = [each for each in self.model if each[0] != number]
        assert self.real.remove(number) == (len(kept) < len(self.model))
        self.model = kept

    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        over = [each for each in self.model if self.now - each[2] >= IDLE_S]
        assert self.real.expire(self.now, IDLE_S) == [each[0] for each in over]
        self.model = [each for each in self.model if each not in over]

    def clear(self) -> None:
        self.real.clear()
        self.model.clear()
        self.last = 0


def check_frame(flow: int, payload: bytes) -> None:
    """Write a datagram between two others, and read the three."""
    stream = memoryview(
        frames.encode_datagram(flow, payload)
        + frames.encode_forget(flow)
        + frames.encode_datagram(flow, b"")
    )
    reader, position = frames.FrameReader(), 0
    kind, first, position = reader.next(stream, position)
    assert (kind, frames.flow_id(bytes(first)), first[4:]) == (frames.DATAGRAM, flow, payload)
    kind, second, position = reader.next(stream, position)
    assert (kind, frames.flow_id(bytes(second)), len(second)) == (frames.FORGET, flow, 4)
    kind, third, position = reader.next(stream, position)
    assert (kind, frames.flow_id(bytes(third)), len(third)) == (frames.DATAGRAM, flow, 4)
    assert position == len(stream)


def check(data: bytes) -> None:
    queue, flows = Queue(), Flows()
    for at in range(0, len(data) - 1, 2):
        act, value = data[at] % 10, data[at + 1]
        match act:
            case 0:
                queue.put(value, datagram=True)
            case 1:
                queue.put(value, datagram=False)
            case 2:
                queue.take()
            case 3:
                queue.clear()
            case 4:
                flows.arrive(value % 8)
            case 5:
                flows.use(value)
            case 6:
                flows.remove(value)
            case 7:
                flows.pass_time(value)
            case 8:
                flows.clear()
            case _:
                check_frame(1 + value, data[at:])
        queue.compare()
        assert len(flows.real) == len(flows.model) <= MOST_FLOWS
    queue.take()
