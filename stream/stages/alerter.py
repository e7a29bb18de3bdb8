"""Judged clicks in, alerts out: the stage that gathers them where scorers run apart."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from adclick.schema.errors import ConfigError
from adclick.stream.alerts.alert import alert_bytes
from adclick.stream.alerts.grouping import Alerts
from adclick.stream.clicks import read_scored
from adclick.stream.kafka.topics import partitions_of
from adclick.stream.kafka.transactions import TransactionAborted, TransactionalProducer
from adclick.stream.metrics import StreamMetrics
from adclick.stream.settings import StreamSettings
from adclick.stream.stages.reading import Partition, PartitionReader
from adclick.stream.state.store import StateStore

_IDLE_SECONDS = 0.1


class AlertStage:
    """Gathers judged clicks, one process for all of them.

    The state is written after Kafka's transaction, with the offsets that it holds; if it is behind, the clicks between
    are gathered again and the alerts that they gave are not produced again. So they are the same, whatever the crash.

    Args:
        settings: The stream.
        store: Where open alerts are kept; this stage is its only user.
        metrics: Where it counts.

    Attributes:
        consumed: How many clicks were read.

    Raises:
        ConfigError: A topic is missing, or the state is not of this consumer group.
        BrokerUnreachable: The broker does not answer.
    """

    def __init__(self, settings: StreamSettings, store: StateStore, *, metrics: StreamMetrics) -> None:
        self.consumed = 0
        self._settings = settings
        self._store = store
        self._metrics = metrics
        self._alerts = Alerts(settings.alerts, store)
        self._topic, self._target = settings.topics.scored_clicks.name, settings.topics.alerts.name
        partitions = partitions_of(settings.kafka, [self._topic, self._target])
        self._group = f"{settings.kafka.group}-alerts"
        self._producer = TransactionalProducer(settings.kafka, self._group)
        self._reader = PartitionReader(settings.kafka, self._group, {self._topic: partitions[self._topic]}, metrics)
        self._find_progress()

    def step(self) -> int:
        """Gathers what there is, in one transaction.

        Returns:
            How many clicks were consumed.
        """
        messages = self._reader.read(self._settings.scorer.batch_rows, _IDLE_SECONDS)
        self.consumed += len(messages)
        if messages:
            try:
                self._process(messages)
            except TransactionAborted:
                self._metrics.count_transaction("aborted")
                self._store.discard()
                self._alerts.rollback()
                self._find_progress()
        self._reader.tell_lag()
        return len(messages)

    def close(self) -> None:
        """Leaves the broker; what is not committed is undone."""
        self._producer.close()
        self._reader.close()

    def _find_progress(self) -> None:
        """Goes to where the state is, and notes how far the group was: it may be ahead."""
        self._next = self._read_position()
        committed, _ = self._reader.committed()
        self._known = {one: max(offset, self._next.get(one, 0)) for one, offset in committed.items()}
        if any(committed.get(one, 0) < offset for one, offset in self._next.items()):
            raise ConfigError(
                f"the state of alerts is ahead of the consumer group {self._group!r}",
                "It belongs to another broker or group: name another folder for it (--state), or delete it.",
            )
        self._reader.assign(self._next)

    def _process(self, messages: list[Any]) -> None:
        from confluent_kafka import TopicPartition

        begun = time.monotonic()
        is_new = False
        for message in messages:
            partition = (message.topic(), message.partition())
            self._next[partition] = message.offset() + 1
            alerts = self._alerts.take(read_scored(message.value(), message.partition(), message.offset()))
            if message.offset() < self._known.get(partition, 0):
                continue
            is_new = True
            for alert in alerts:
                self._metrics.count_alert(alert.state)
                self._producer.produce(self._target, alert_bytes(alert), alert.id.encode())
        if is_new:
            offsets = [TopicPartition(*one, max(offset, self._known.get(one, 0))) for one, offset in self._next.items()]
            self._producer.commit(offsets, self._reader.group_metadata)
            self._metrics.count_transaction("committed")
        self._alerts.put()
        self._store.commit(msgspec.msgpack.encode([(*one, offset) for one, offset in self._next.items()]))
        self._metrics.open_alerts.set(self._alerts.open)
        self._metrics.commit.observe(time.monotonic() - begun)

    def _read_position(self) -> dict[Partition, int]:
        position = self._store.position()
        if position is None:
            return {}
        return {(topic, number): offset for topic, number, offset in msgspec.msgpack.decode(position)}
