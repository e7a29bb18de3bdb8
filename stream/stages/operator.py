"""The first stage: events in, in the order of their time, features of each click out; and what follows in one process.

Exactly once, over Kafka and a state that is no part of it: a transaction of Kafka holds what is produced, how far was
consumed and where in the order of events it ends; only then is the state written, with the same place. So after a crash
the state is at most behind. Then the events between the two are gone through again, and what they produced before is
not produced again.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import FeatureTable
from adclick.stream.alerts.alert import Alert, alert_bytes
from adclick.stream.alerts.grouping import Alerts
from adclick.stream.clicks import Click, ScoredClick, featured_bytes, scored_bytes
from adclick.stream.columns import readers_of
from adclick.stream.events import Event, Kind, Place, RejectedEvent
from adclick.stream.features.operator import FeatureOperator
from adclick.stream.history.backfill import HISTORY_POSITION
from adclick.stream.kafka.topics import partitions_of
from adclick.stream.kafka.transactions import TransactionAborted, TransactionalProducer
from adclick.stream.metrics import StreamMetrics
from adclick.stream.ordering import EventOrder
from adclick.stream.rejection import read_event, rejected_bytes, rejection_headers
from adclick.stream.settings import StreamSettings
from adclick.stream.stages.judge import Judge
from adclick.stream.stages.reading import Partition, PartitionReader
from adclick.stream.state.store import StateStore

logger = logging.getLogger(__name__)

_IDLE_SECONDS = 0.1
_COMMIT_SECONDS = 1.0
#: Where so many events wait for one partition, the others are not read until it has caught up.
_MOST_WAITING = 20_000


@dataclass
class _Batch:
    """What became of some messages: late and in time, in the order in which it is produced."""

    clicks: list[Click]
    rejected: list[RejectedEvent]


class OperatorStage:
    """Features, and, where a judge is given, scores and alerts: in one process and one transaction.

    Args:
        settings: The stream.
        features: The config's columns.
        store: The state; this stage is its only user.
        judge: Scores clicks; they go on as featured clicks if None.
        alerts: Gathers scored clicks, in the same store; they are not gathered here if None.
        metrics: Where it counts.

    Raises:
        ConfigError: A topic is missing, or the state does not belong to the broker's progress.
        BrokerUnreachable: The broker does not answer.
    """

    def __init__(
        self,
        settings: StreamSettings,
        features: FeatureTable,
        store: StateStore,
        *,
        judge: Judge | None,
        alerts: Alerts | None,
        metrics: StreamMetrics,
    ) -> None:
        self._settings = settings
        self._topics = settings.topics
        self._operator = FeatureOperator(settings, store)
        self._judge = judge
        self._alerts = alerts
        self._metrics = metrics
        readers = readers_of(settings, features)
        self._kinds: dict[str, Kind] = {getattr(self._topics, kind).name: kind for kind in readers}
        self._readers = {topic: readers[kind] for topic, kind in self._kinds.items()}
        outputs = [self._topics.rejected_events, self._topics.featured_clicks]
        if judge is not None:
            outputs = [self._topics.rejected_events, self._topics.scored_clicks]
        if alerts is not None:
            outputs.append(self._topics.alerts)
        counts = partitions_of(settings.kafka, [*self._kinds, *(topic.name for topic in outputs)])
        self._channels = {
            (topic, number): (kind, number) for topic, kind in self._kinds.items() for number in range(counts[topic])
        }
        group = settings.kafka.group
        # Before the progress is read: what another process of this name had begun is ended by it.
        self._producer = TransactionalProducer(settings.kafka, f"{group}-operator")
        self._reader = PartitionReader(settings.kafka, group, {topic: counts[topic] for topic in self._kinds}, metrics)
        self._position = self._operator.position()
        self._order, self._next = self._read_position()
        self._ends: dict[Partition, int] = {}
        self._place: Place | None = None
        self._is_behind = False
        self._set_aside: list[Any] = []
        self._last_arrival = self._flowing_since = -math.inf
        self._committed_at, self._has_more = time.monotonic(), False
        self._find_progress()

    @property
    def waiting(self) -> int:
        """How many events wait for others to pass before them."""
        return len(self._order)

    def step(self) -> int:
        """Consumes what there is, and commits what follows from it.

        Returns:
            How many events were consumed.
        """
        waiting = len(self._order)
        messages = self._reader.read(
            self._settings.scorer.batch_rows,
            min(self._settings.idle_seconds / 2, _IDLE_SECONDS) if waiting else _IDLE_SECONDS,
        )
        if messages:
            now = time.monotonic()
            if now - self._last_arrival > self._settings.idle_seconds:
                self._flowing_since = now
            self._last_arrival = now
        if self._is_behind:
            self._catch_up(messages)
            self._balance()
            return len(messages)
        try:
            self._process(messages)
        except TransactionAborted:
            self._metrics.count_transaction("aborted")
            self._rewind()
        self._balance()
        self._reader.tell_lag()
        return len(messages)

    def close(self) -> None:
        """Leaves the broker; what is not committed is undone."""
        self._producer.close()
        self._reader.close()

    def _process(self, messages: Sequence[Any]) -> None:
        batch = self._take(messages)
        for partition in self._silent():
            self._order.set_idle(self._channels[partition])
        batch.clicks += self._featured(self._order.ready())
        self._metrics.waiting.set(len(self._order))
        begun = time.monotonic()
        self._has_more = self._has_more or bool(messages)
        # Impressions alone change the state and produce nothing: they are committed now and then.
        is_due = self._has_more and begun - self._committed_at > _COMMIT_SECONDS
        if not batch.clicks and not batch.rejected and not is_due:
            return
        self._produce(batch)
        position = self._new_position()
        self._commit_to_kafka()
        self._commit_state(position)
        self._committed_at, self._has_more = time.monotonic(), False
        self._metrics.commit.observe(self._committed_at - begun)
        now = time.time()
        observe = self._metrics.delay.observe
        for click in batch.clicks:
            observe(max(0.0, now - click.time / 1_000_000))
        self._metrics.count_transaction("committed")

    def _take(self, messages: Iterable[Any]) -> _Batch:
        """Reads messages; those in time wait in the order."""
        batch = _Batch([], [])
        late = dict.fromkeys(self._kinds.values(), 0)
        for message in messages:
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            self._next[(topic, partition)] = offset + 1
            event = read_event(self._readers[topic], message.value() or b"", partition, offset)
            if isinstance(event, RejectedEvent):
                batch.rejected.append(event)
            elif not self._order.add(event):
                late[event.kind] += 1
                if event.kind == "clicks":
                    batch.clicks.append(Click(event.id, event.time, event.fields, {}, True, partition, offset))
        if not self._is_behind:
            for kind, count in late.items():
                self._metrics.count_events(kind, "late", count)
            for event in batch.rejected:
                self._metrics.count_events(event.kind, "rejected")
        return batch

    def _featured(self, events: Iterable[Event]) -> list[Click]:
        clicks = []
        process = self._operator.process
        count = impressions = 0
        for event in events:
            count += 1
            features = process(event)
            if features is None:
                impressions += 1
            else:
                clicks.append(Click(event.id, event.time, event.fields, features, False, event.partition, event.offset))
        if not self._is_behind:
            self._metrics.count_events("impressions", "processed", impressions)
            self._metrics.count_events("clicks", "processed", count - impressions)
        return clicks

    def _produce(self, batch: _Batch) -> None:
        produce = self._producer.produce
        for event in batch.rejected:
            produce(
                self._topics.rejected_events.name,
                rejected_bytes(event),
                headers=rejection_headers(event),
            )
        if self._judge is None:
            for click in batch.clicks:
                produce(self._topics.featured_clicks.name, featured_bytes(click), click.id.encode())
            return
        scored = self._judge.judge(batch.clicks)
        for one in scored:
            produce(self._topics.scored_clicks.name, scored_bytes(one), one.click.id.encode())
        for alert in self._gather(scored):
            self._metrics.count_alert(alert.state)
            produce(self._topics.alerts.name, alert_bytes(alert), alert.id.encode())

    def _gather(self, scored: Sequence[ScoredClick]) -> list[Alert]:
        if self._alerts is None:
            return []
        alerts = [alert for one in scored for alert in self._alerts.take(one)]
        self._metrics.open_alerts.set(self._alerts.open)
        return alerts

    # What is committed, and going on from it.

    def _new_position(self) -> bytes:
        offsets = [(topic, number, offset) for (topic, number), offset in self._next.items()]
        return msgspec.msgpack.encode((offsets, self._order.to_bytes()))

    def _read_position(self) -> tuple[EventOrder, dict[Partition, int]]:
        # A state that a backfill left goes on from the topics' first events.
        if self._position is None or self._position == HISTORY_POSITION:
            return EventOrder(self._settings.disorder, self._channels.values()), {}
        offsets, order = msgspec.msgpack.decode(self._position)
        found = EventOrder.from_bytes(order)
        found.set_channels(self._channels.values())
        return found, {(topic, number): offset for topic, number, offset in offsets}

    def _commit_to_kafka(self) -> None:
        from confluent_kafka import TopicPartition

        note = json.dumps(self._order.last_place)
        offsets = [TopicPartition(*one, offset, metadata=note) for one, offset in self._next.items()]
        self._producer.commit(offsets, self._reader.group_metadata)

    def _commit_state(self, position: bytes) -> None:
        if self._alerts is not None:
            self._alerts.put()
        self._operator.commit(position)
        self._position = position

    def _rewind(self) -> None:
        """Goes back to the state's last commit, and from there on to Kafka's, which may be one further."""
        self._operator.rollback()
        if self._alerts is not None:
            self._alerts.rollback()
        self._order, self._next = self._read_position()
        self._find_progress()

    def _find_progress(self) -> None:
        """Compares the state with what the broker has committed, and begins to read."""
        committed, notes = self._reader.committed()
        behind = [one for one, offset in self._next.items() if committed.get(one, 0) < offset]
        if behind and self._position is not None:
            raise ConfigError(
                f"the state on disk is ahead of the consumer group {self._settings.kafka.group!r}: it has read "
                f"{behind[0][0]} up to {self._next[behind[0]]}, the group up to {committed.get(behind[0], 'nowhere')}",
                "It belongs to another broker or group: name another folder for it (--state), or delete it and go "
                "through the history anew.",
            )
        first = self._reader.first_offsets()
        lost = {one: first[one] - self._next.get(one, 0) for one in first if first[one] > self._next.get(one, 0)}
        if lost:
            logger.warning(
                "%d events that the state has not seen are no longer in Kafka: features know nothing of them",
                sum(lost.values()),
            )
        self._place = max((place for note in notes if (place := _place_of(note)) is not None), default=None)
        begin = {one: max(self._next.get(one, 0), first[one]) for one in first}
        self._ends = {one: offset for one, offset in committed.items() if offset > begin[one]}
        reached = self._order.last_place
        # Events may have left by the clock, without another one consumed.
        self._is_behind = bool(self._ends) or (self._place is not None and (reached is None or self._place > reached))
        if self._is_behind:
            logger.info(
                "the state is behind Kafka: %d events are gone through again",
                sum(offset - begin[one] for one, offset in self._ends.items()),
            )
        self._reader.assign(begin)

    def _catch_up(self, messages: Sequence[Any]) -> None:
        """Goes through events whose results are committed, and produces nothing, until the state is where Kafka is."""
        known = []
        for message in messages:
            partition = (message.topic(), message.partition())
            if message.offset() < self._ends.get(partition, self._next.get(partition, 0)):
                known.append(message)
            else:
                self._set_aside.append(message)
        beyond = {(message.topic(), message.partition()) for message in self._set_aside}
        clicks = self._take(known).clicks + self._featured(self._order.ready())
        done = all(
            self._next.get(one, 0) >= end or one in beyond or one in self._reader.at_end
            for one, end in self._ends.items()
        )
        if done and self._place is not None:
            clicks += self._featured(self._order.through(self._place))
        if self._judge is not None and self._alerts is not None:
            self._gather(self._judge.judge(clicks))
        if done:
            for one, end in self._ends.items():
                self._next[one] = max(self._next.get(one, 0), end)
            self._ends, self._is_behind = {}, False
            self._commit_state(self._new_position())
            # What was read beyond is read again.
            self._set_aside.clear()
            self._reader.assign(self._next)

    def _balance(self) -> None:
        """Lets partitions that are far ahead wait for the others, lest all that they hold waits in memory."""
        if len(self._order) > _MOST_WAITING:
            channels = self._order.holding_back()
            self._reader.only([one for one, channel in self._channels.items() if channel in channels])
        elif len(self._order) < _MOST_WAITING // 2:
            self._reader.only(None)

    def _silent(self) -> list[Partition]:
        """Partitions that have been at their end, and silent, for long enough."""
        before = time.monotonic() - self._settings.idle_seconds
        # After a lull one partition's events come before another's, which was silent no longer than all.
        if self._flowing_since > before:
            return []
        return [one for one, since in self._reader.at_end.items() if since <= before]


def _place_of(note: str) -> Place | None:
    try:
        found = json.loads(note)
        if found is None:
            return None
        moment, kind, name, partition, offset = found
        return (int(moment), str(kind), str(name), int(partition), int(offset))
    except (ValueError, TypeError):
        return None
