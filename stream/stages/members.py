"""The stages that any number of processes share: each takes part of a topic's partitions and keeps nothing."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from typing import Any

from adclick.stream.clicks import read_click, scored_bytes
from adclick.stream.kafka.connection import consumer_options, error_text, patiently
from adclick.stream.kafka.topics import partitions_of
from adclick.stream.kafka.transactions import TransactionAborted, TransactionalProducer
from adclick.stream.metrics import StreamMetrics
from adclick.stream.settings import StreamSettings
from adclick.stream.stages.judge import Judge
from adclick.stream.stages.reading import EARLIEST, Lag

logger = logging.getLogger(__name__)

_IDLE_SECONDS = 0.1
_ANSWER_SECONDS = 10.0


def scorer_group(settings: StreamSettings) -> str:
    """The consumer group of all scorers."""
    return f"{settings.kafka.group}-scorer"


class ScorerStage:
    """Featured clicks in, judged clicks out, as one of a consumer group.

    Args:
        settings: The stream.
        judge: Judges clicks.
        metrics: Where it counts.
        instance: What tells this process from others of the group, the same when it is started again: then what a
            process that died had begun is undone at once, and not after ten seconds. At random by default.

    Raises:
        ConfigError: A topic is missing.
        BrokerUnreachable: The broker does not answer.
    """

    def __init__(
        self, settings: StreamSettings, *, judge: Judge, metrics: StreamMetrics, instance: str | None = None
    ) -> None:
        from confluent_kafka import Consumer

        self._settings = settings
        self._judge = judge
        self._metrics = metrics
        self._source, self._target = settings.topics.featured_clicks.name, settings.topics.scored_clicks.name
        self._rejected = settings.topics.rejected_events.name
        partitions_of(settings.kafka, [self._source, self._target, self._rejected])
        group = scorer_group(settings)
        member = instance or uuid.uuid4().hex
        self._producer = TransactionalProducer(settings.kafka, f"{group}-{member}")
        self._gone: set[int] = set()
        # A process that died is noticed by the broker after the session.
        options = consumer_options(settings.kafka, group, **{"session.timeout.ms": 10_000})
        if instance is not None:
            options["group.instance.id"] = instance
        self._consumer = Consumer(options)
        self._consumer.subscribe([self._source], on_revoke=self._note_gone, on_lost=self._note_gone)
        self._lag = Lag(self._consumer, (self._source,), metrics)

    @property
    def partitions(self) -> list[int]:
        """The partitions that are this process's."""
        return [one.partition for one in self._consumer.assignment()]

    def step(self) -> int:
        """Judges what there is, in one transaction.

        Returns:
            How many clicks were consumed.
        """
        self._gone.clear()
        first = self._consumer.poll(_IDLE_SECONDS)
        more = self._consumer.consume(self._settings.scorer.batch_rows - 1, 0) if first is not None else []
        messages = [one for one in ([first, *more] if first is not None else []) if one.error() is None]
        # Partitions that went to another process while these were read are its to judge.
        messages = [one for one in messages if one.partition() not in self._gone]
        if messages:
            try:
                self._process(messages)
            except TransactionAborted:
                self._metrics.count_transaction("aborted")
                self._rewind()
        self._lag.tell((one.topic, one.partition) for one in self._consumer.assignment())
        return len(messages)

    def close(self) -> None:
        """Leaves the group; what is not committed is undone."""
        self._producer.close()
        self._consumer.close()

    def _process(self, messages: Sequence[Any]) -> None:
        from confluent_kafka import TopicPartition

        begun = time.monotonic()
        clicks = []
        for message in messages:
            try:
                clicks.append(read_click(message.value() or b"", message.partition(), message.offset()))
            except ValueError as error:
                self._metrics.count_events("clicks", "rejected")
                headers = [("reason", str(error).encode()[:1000]), ("kind", b"clicks")]
                self._producer.produce(self._rejected, message.value() or b"", headers=headers)
        for scored in self._judge.judge(clicks):
            self._producer.produce(self._target, scored_bytes(scored), scored.click.id.encode())
        ends = {message.partition(): message.offset() + 1 for message in messages}
        offsets = [TopicPartition(self._source, partition, offset) for partition, offset in ends.items()]
        self._producer.commit(offsets, self._consumer.consumer_group_metadata())
        self._metrics.commit.observe(time.monotonic() - begun)
        self._metrics.count_events("clicks", "processed", len(clicks))
        self._metrics.count_transaction("committed")
        now = time.time()
        for click in clicks:
            self._metrics.delay.observe(max(0.0, now - click.time / 1_000_000))

    def _rewind(self) -> None:
        """Goes back to what the group has committed."""
        from confluent_kafka import KafkaException

        partitions = self._consumer.assignment()
        ask = lambda: self._consumer.committed(partitions, timeout=_ANSWER_SECONDS)  # noqa: E731
        for place in patiently(self._settings.kafka, ask):
            # Nothing committed: from the first on.
            place.offset = place.offset if place.offset >= 0 else EARLIEST
            try:
                self._consumer.seek(place)
            except KafkaException as error:
                # A partition that is no longer this process's.
                logger.info("going back: %s", error_text(error))

    def _note_gone(self, _: Any, partitions: Sequence[Any]) -> None:
        self._gone.update(one.partition for one in partitions)
