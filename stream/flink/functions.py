"""The functions of Flink's tasks, each over the bytes of `batches`; their state is Flink's, by key.

A task's Python process holds what it has of its keys' states as objects, too, and reads Flink's state, over a socket,
only where it has nothing: after a start, and of what it let go of.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from pyflink.common import Row, Time, Types
from pyflink.datastream import OutputTag
from pyflink.datastream.functions import KeyedProcessFunction, ProcessFunction, RuntimeContext
from pyflink.datastream.state import MapState, MapStateDescriptor, StateTtlConfig, ValueStateDescriptor

from adclick.schema.feature_table import FeatureTable
from adclick.stream.columns import readers_of
from adclick.stream.events import Channel, Event, Kind, RejectedEvent
from adclick.stream.flink.batches import (
    MOST_CACHED,
    Batches,
    BucketFeatures,
    FlinkBatch,
    Joiner,
    event_bytes,
    event_from_bytes,
)
from adclick.stream.flink.silence import EndsOfPartitions, Silence, ends_by_broker
from adclick.stream.kafka.connection import consumer_options
from adclick.stream.ordering import EventOrder
from adclick.stream.rejection import read_event, rejected_bytes, rejection_headers
from adclick.stream.settings import StreamSettings

BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
#: What is no event: its bytes, and the headers that go beside them, in their order.
REJECTED = OutputTag("rejected", Types.ROW([BYTES] * 6))
#: A batch's head, by its number.
HEADS = OutputTag("heads", Types.ROW([Types.LONG(), Types.BOOLEAN(), BYTES]))
#: A part of a batch, by its bucket.
PART = Types.ROW([Types.INT(), BYTES])
#: A head or the results of a part, by the batch's number.
RESULT = Types.ROW([Types.LONG(), Types.BOOLEAN(), BYTES])
#: A click's id and the click.
FEATURED = Types.ROW_NAMED(["id", "payload"], [BYTES, BYTES])

#: How often events leave the order.
_TICK_MILLISECONDS = 10


def _forgotten_after(milliseconds: int) -> StateTtlConfig:
    """State that Flink removes when it was not written for so long."""
    # Else Flink is asked for each value anew; what is expired and still there changes nothing.
    return (
        StateTtlConfig.new_builder(Time.milliseconds(milliseconds))
        .set_update_type(StateTtlConfig.UpdateType.OnCreateAndWrite)
        .set_state_visibility(StateTtlConfig.StateVisibility.ReturnExpiredIfNotCleanedUp)
        .build()
    )


def _map_state(context: RuntimeContext, name: str, milliseconds: int | None = None) -> MapState:
    descriptor = MapStateDescriptor(name, BYTES, BYTES)
    if milliseconds is not None:
        descriptor.enable_time_to_live(_forgotten_after(milliseconds))
    return context.get_map_state(descriptor)


class _Known:
    """A map of Flink's current key, which is asked only for what it may hold."""

    def __init__(self, state: MapState) -> None:
        self._state = state
        self._keys = {hash(bytes(key)) for key in iter(state.keys())}

    def get(self, key: bytes) -> bytes | None:
        found = self._state.get(key) if hash(key) in self._keys else None
        return None if found is None else bytes(found)

    def put(self, key: bytes, value: bytes) -> None:
        self._state.put(key, value)
        self._keys.add(hash(key))


class ReadEvents(ProcessFunction):
    """Rows of kind, payload, partition and offset in, events out; what is none goes to `REJECTED`.

    Args:
        settings: The stream.
        features: The config's columns.
        kinds: The kinds of events, by the number that a row gives.
    """

    def __init__(self, settings: StreamSettings, features: FeatureTable, kinds: tuple[Kind, ...]) -> None:
        self._settings, self._features, self._kinds = settings, features, kinds

    def open(self, runtime_context: RuntimeContext) -> None:
        readers = readers_of(self._settings, self._features)
        self._readers = [readers[kind] for kind in self._kinds]

    def process_element(self, value: Any, ctx: ProcessFunction.Context) -> Iterator[Any]:
        kind, payload, partition, offset = value
        event = read_event(self._readers[kind], b"" if payload is None else bytes(payload), partition, offset)
        if isinstance(event, RejectedEvent):
            yield REJECTED, Row(rejected_bytes(event), *(value for _, value in rejection_headers(event)))
            # Its partition has come so far all the same.
            yield event_bytes(Event(event.kind, "", -1, {}, partition, offset))
        else:
            yield event_bytes(event)


class OrderEvents(KeyedProcessFunction):
    """Events in, in the order of their partitions; parts of batches out, in the order of all, and heads to `HEADS`.

    There is one key, and so one task: whether an event is late, and what was before it, is said by all partitions.

    Args:
        settings: The stream.
        channels: All partitions of all topics of events.
        impressions_kept: For how long an impression is kept, in milliseconds of the clock.
    """

    def __init__(self, settings: StreamSettings, channels: tuple[Channel, ...], impressions_kept: int) -> None:
        self._settings, self._channels, self._impressions_kept = settings, channels, impressions_kept

    def open(self, runtime_context: RuntimeContext) -> None:
        settings = self._settings
        self._marks = runtime_context.get_state(ValueStateDescriptor("marks", Types.PICKLED_BYTE_ARRAY()))
        self._waiting = _map_state(runtime_context, "waiting")
        self._impressions_state = _map_state(runtime_context, "impressions", self._impressions_kept)
        options = consumer_options(settings.kafka, f"{settings.kafka.group}-flink-ends")
        # A client's log cannot be sent to a task; here it is made anew.
        topics = {kind: getattr(settings.topics, kind).name for kind, _ in self._channels}
        self._ends = EndsOfPartitions(ends_by_broker(options, topics))
        self._batches = Batches(settings, self._impression, self._keep_impression)
        self._order: EventOrder | None = None
        self._is_armed = False

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        order = self._restored()
        content = bytes(value)
        event = event_from_bytes(content)
        self._silence.arrived(event.channel, event.offset, time.monotonic())
        self._marks.update(self._snapshot)
        if not self._is_armed:
            self._is_armed = True
            self._arm(ctx)
        if event.time < 0:
            return
        if order.add(event):
            self._waiting.put(_waiting_key(event), content)
        elif event.kind == "clicks":
            yield from self._leave(self._batches.late(self._next_number(), event))

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Any]:
        order = self._restored()
        if len(order):
            candidates = self._silence.candidates(time.monotonic())
            if candidates:
                for channel in self._ends.at_end(candidates):
                    order.set_idle(channel)
        events = order.ready()
        if events:
            for event in events:
                self._waiting.remove(_waiting_key(event))
            yield from self._leave(self._batches.batch(self._next_number(), events))
        self._marks.update(self._snapshot)
        self._is_armed = len(order) > 0
        if self._is_armed:
            self._arm(ctx)

    def _arm(self, ctx: Any) -> None:
        now = ctx.timer_service().current_processing_time()
        ctx.timer_service().register_processing_time_timer(now + _TICK_MILLISECONDS)

    def _leave(self, batch: FlinkBatch) -> Iterator[Any]:
        yield HEADS, Row(self._number, True, batch.head)
        for bucket, part in batch.parts.items():
            yield Row(bucket, part)

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _restored(self) -> EventOrder:
        """The order, as the last checkpoint has it where this is a new process."""
        if self._order is None:
            marks = self._marks.value()
            self._silence = Silence(self._channels, self._settings.idle_seconds, time.monotonic())
            self._number = 0
            order = EventOrder(self._settings.disorder, self._channels)
            if marks is not None:
                content, self._number, offsets = marks
                order = EventOrder.from_bytes(content)
                order.set_channels(self._channels)
                order.restore(event_from_bytes(bytes(one)) for one in self._waiting.values())
                self._silence.next_offsets.update(offsets)
            self._order = order
            self._snapshot = _Snapshot(self)
            self._impressions: dict[str, int] = {}
            self._known_impressions = _Known(self._impressions_state)
        return self._order

    def snapshot(self) -> tuple[bytes, int, Mapping[Channel, int]]:
        """What `_restored` reads, beside the events that wait."""
        assert self._order is not None
        return (self._order.marks_to_bytes(), self._number, dict(self._silence.next_offsets))

    def _impression(self, name: str) -> int | None:
        known = self._impressions.get(name)
        if known is None:
            stored = self._known_impressions.get(name.encode())
            known = None if stored is None else int.from_bytes(stored, "big")
        return known

    def _keep_impression(self, name: str, moment: int) -> None:
        if len(self._impressions) > MOST_CACHED:
            self._impressions.clear()
        self._impressions[name] = moment
        self._known_impressions.put(name.encode(), moment.to_bytes(8, "big"))


class _Snapshot:
    """Pickled as what the order is at that moment: Flink's state is written at the end of many events, not at each."""

    def __init__(self, function: OrderEvents) -> None:
        self._function = function

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (self._function.snapshot(),)


def _waiting_key(event: Event) -> bytes:
    return f"{event.kind} {event.partition} {event.offset}".encode()


class ComputeFeatures(KeyedProcessFunction):
    """Parts of batches in, by bucket; their results out.

    Args:
        settings: The stream.
        states_kept: For how long a key's state is kept after it was last touched, in milliseconds of the clock.
    """

    def __init__(self, settings: StreamSettings, states_kept: int) -> None:
        self._settings, self._states_kept = settings, states_kept

    def open(self, runtime_context: RuntimeContext) -> None:
        self._state = _map_state(runtime_context, "features", self._states_kept)
        self._buckets: dict[int, BucketFeatures] = {}

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        bucket, part = value
        features = self._buckets.get(bucket)
        if features is None:
            known = _Known(self._state)
            features = self._buckets[bucket] = BucketFeatures(self._settings, known.get, known.put)
        number, results = features.process(bytes(part))
        yield Row(number, False, results)


class JoinBatches(KeyedProcessFunction):
    """Heads and results in, by the batch's number; featured clicks out."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self._contents = _map_state(runtime_context, "contents")
        self._joiners: dict[int, tuple[Joiner, int]] = {}

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        number, is_head, content = value
        content = bytes(content)
        joiner, count = self._joiners.get(number) or self._restored()
        joiner.add(is_head, content)
        clicks = joiner.clicks()
        if clicks is None:
            self._joiners[number] = (joiner, count + 1)
            self._contents.put(count.to_bytes(4, "big"), bytes([is_head]) + content)
            return
        if self._joiners.pop(number, None) is not None or count:
            self._contents.clear()
        for name, payload in clicks:
            yield Row(name, payload)

    def _restored(self) -> tuple[Joiner, int]:
        contents = [bytes(one) for one in self._contents.values()]
        return Joiner((bool(one[0]), one[1:]) for one in contents), len(contents)
