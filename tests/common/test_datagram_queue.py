from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.datagram_queue import MOST_OTHERS, DatagramQueue

MOST = 50


def test_the_oldest_datagrams_go_first() -> None:
    queue = DatagramQueue(6)
    for frame in (b"aa", b"bb", b"cc", b"dd"):
        queue.put(frame, datagram=True)
    assert queue.dropped == 1
    assert queue.take() == b"bbccdd"
    assert not len(queue)


def test_what_the_other_side_must_know_is_never_dropped() -> None:
    queue = DatagramQueue(4)
    queue.put(b"flow", datagram=False)
    queue.put(b"aa", datagram=True)
    queue.put(b"forget", datagram=False)
    assert queue.take() == b"flowforget"
    assert queue.dropped == 1


def test_it_is_crowded_when_too_much_waits_that_cannot_be_dropped() -> None:
    queue = DatagramQueue()
    for _ in range(MOST_OTHERS):
        assert not queue.crowded
        queue.put(b"flow", datagram=False)
    assert queue.crowded
    queue.take()
    assert not queue.crowded


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=30), st.booleans())))
def test_it_keeps_order_and_its_bound(put: list[tuple[bytes, bool]]) -> None:
    queue = DatagramQueue(MOST)
    model: list[tuple[bytes, bool]] = []
    dropped = 0
    for frame, datagram in put:
        queue.put(frame, datagram=datagram)
        model.append((frame, datagram))
        while sum(len(each) for each, _ in model) > MOST:
            oldest = next((at for at, each in enumerate(model) if each[1]), None)
            if oldest is None:
                break
            del model[oldest]
            dropped += 1
        assert queue.dropped == dropped
        assert len(queue) == len(model)
    assert queue.take() == b"".join(each for each, _ in model)
