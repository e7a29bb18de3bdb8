"""What the tasks do gives what one process does: the same clicks to the byte, however batches and tasks part them."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from adclick.stream.clicks import Click, featured_bytes
from adclick.stream.events import Event
from adclick.stream.features.operator import FeatureOperator
from adclick.stream.flink import batches as module
from adclick.stream.flink.batches import Batches, BucketFeatures, Joiner, event_bytes, event_from_bytes
from adclick.stream.settings import StreamSettings
from adclick.stream.state.store import MemoryState

SECOND = 1_000_000
SETTINGS = StreamSettings.model_validate(
    {
        "events": {"impressions": {"id": "impression_id"}, "impression_window": "5s"},
        "features": {
            "clicks_2s": {"kind": "count", "by": ["ip"], "window": "2s"},
            "seen_2s": {"kind": "count", "by": ["ip"], "window": "2s", "of": "impressions"},
            "sites_3s": {
                "kind": "distinct",
                "by": ["ip", "device"],
                "column": "site",
                "window": "3s",
                "max_distinct": 2,
            },
            "spent_3s": {"kind": "sum", "by": ["device"], "column": "cost", "window": "3s"},
            "pause_3s": {"kind": "mean", "by": ["site"], "column": "seconds_to_click", "window": "3s"},
            "since": {"kind": "time_since_last", "by": ["site"], "window": "9s"},
            "known_4s": {"kind": "share_with_impression", "by": ["site"], "window": "4s"},
            "hours": {"kind": "hour_entropy", "by": ["ip"], "window": "4s"},
            "to_click": {"kind": "time_to_click"},
        },
    }
)


def event(number: int, moment: int, kind: Any, ip: str | None, device: str, site: str, cost: float) -> Event:
    fields: dict[str, str | float] = {"device": device, "site": site, "unread": "x", "impression_id": f"e{number // 2}"}
    if ip is not None:
        fields["ip"] = ip
    if kind == "clicks":
        fields["cost"] = cost
    return Event(kind, f"e{number}", moment * SECOND // 4, fields, number % 2, number)


def drawn_events() -> st.SearchStrategy[list[Event]]:
    parts = st.tuples(
        st.integers(0, 60),
        st.sampled_from(["impressions", "clicks"]),
        st.sampled_from(["a", "b", None]),
        st.sampled_from("de"),
        st.sampled_from("stu"),
        st.floats(-1e6, 1e6),
    )
    return st.lists(parts, max_size=40).map(
        lambda drawn: sorted(
            (event(n, 4_000_000 + t, *rest) for n, (t, *rest) in enumerate(drawn)), key=lambda e: e.place
        )
    )


class Tasks:
    """The tasks of a job, which lose what they hold in memory when they are started again."""

    def __init__(self) -> None:
        self.impressions: dict[str, int] = {}
        self.states: dict[int, dict[bytes, bytes]] = {}
        self.start()

    def start(self) -> None:
        self.batches = Batches(SETTINGS, self.impressions.get, self.impressions.__setitem__)
        self.buckets: dict[int, BucketFeatures] = {}

    def features_of(self, bucket: int) -> BucketFeatures:
        if bucket not in self.buckets:
            states = self.states.setdefault(bucket, {})
            self.buckets[bucket] = BucketFeatures(SETTINGS, states.get, states.__setitem__)
        return self.buckets[bucket]


@settings(deadline=None)
@given(drawn_events(), st.integers(1, 9), st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_features_are_those_of_one_process(
    events: list[Event], size: int, restart: int, source: random.Random
) -> None:
    operator = FeatureOperator(SETTINGS, MemoryState())
    expected = []
    for one in events:
        features = operator.process(one)
        if features is not None:
            expected.append(featured_bytes(Click(one.id, one.time, one.fields, features)))
    tasks = Tasks()
    found = []
    for number, first in enumerate(range(0, len(events), size)):
        if restart and number % restart == 0:
            tasks.start()
        passed_on = [event_from_bytes(event_bytes(one)) for one in events[first : first + size]]
        batch = tasks.batches.batch(number, passed_on)
        contents = [(True, batch.head)]
        for bucket, part in batch.parts.items():
            of, results = tasks.features_of(bucket).process(part)
            assert of == number
            contents.append((False, results))
        source.shuffle(contents)
        for come in range(len(contents)):
            assert Joiner(contents[:come]).clicks() is None
        clicks = Joiner(contents).clicks()
        assert clicks is not None
        found += clicks
    assert [content for _, content in found] == expected
    assert [name for name, _ in found] == [one.id.encode() for one in events if one.kind == "clicks"]


def test_states_that_were_let_go_of_are_read_again() -> None:
    stored: dict[bytes, bytes] = {}
    read: list[bytes] = []

    def get(key: bytes) -> bytes | None:
        read.append(key)
        return stored.get(key)

    few = module.MOST_CACHED // module.BUCKETS + 1
    bucket = BucketFeatures(SETTINGS, get, stored.__setitem__)
    entries = [(number, 0, f"key-{number}".encode(), SECOND, {"ip": "a"}) for number in range(few)]
    bucket.process(module._encode((1, entries)))
    assert len(read) == few
    _, results = bucket.process(module._encode((2, entries[:1])))
    assert len(read) == few + 1
    assert module._decode(results)[1] == [[0, 0, {"clicks_2s": 2, "seen_2s": 0, "hours": 0.0}]]


def test_a_late_click_comes_at_once_without_features() -> None:
    late = event(1, 4_000_000, "clicks", "a", "d", "s", 1.0)
    batch = Batches(SETTINGS, {}.get, {}.__setitem__).late(7, late)
    assert not batch.parts
    ((name, content),) = Joiner([(True, batch.head)]).clicks() or []
    assert name == b"e1" and content == featured_bytes(Click(late.id, late.time, late.fields, {}, True))
