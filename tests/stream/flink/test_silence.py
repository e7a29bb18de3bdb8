"""A partition is idle after so long a silence, at its end, and never just after a lull of all."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from adclick.stream.events import Channel
from adclick.stream.flink.silence import EndsOfPartitions, Silence

A, B = ("clicks", 0), ("clicks", 1)


def test_a_silent_partition_is_asked_about_with_the_offset_that_comes_next() -> None:
    silence = Silence([A, B], idle_seconds=1, now=0)
    silence.arrived(A, 6, 0.5)
    silence.arrived(B, 2, 1.4)
    assert silence.candidates(1.5) == {A: 7}
    assert silence.candidates(2.4) == {A: 7, B: 3}


def test_after_a_lull_none_is_idle_at_once() -> None:
    silence = Silence([A, B], idle_seconds=1, now=0)
    silence.arrived(A, 0, 10)
    assert silence.candidates(10.5) == {}
    silence.arrived(A, 1, 10.9)
    assert silence.candidates(11.1) == {B: 0}


def test_the_broker_is_asked_beside_and_its_answer_holds_for_its_offset_alone() -> None:
    asked: list[Mapping[Channel, int]] = []
    may_answer = threading.Event()

    def at_end(question: Mapping[Channel, int]) -> set[Channel]:
        may_answer.wait(60)
        asked.append(question)
        return {A}

    ends = EndsOfPartitions(at_end)
    assert ends.at_end({A: 3, B: 4}) == set()
    may_answer.set()
    deadline = time.monotonic() + 60
    while ends.at_end({A: 3, B: 4}) != {A}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert asked[0] == {A: 3, B: 4}
    # What came since lies behind another end.
    assert ends.at_end({A: 4}) == set()
