"""Consume, process, produce as one Kafka transaction: readers of committed messages see each result once.

What is produced and how far was consumed become visible together or not at all (KIP-98, KIP-447). A process that dies
within a transaction leaves nothing behind: the next one of the same name ends what it had begun.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from schema.errors import AdclickError, ConfigError
from stream.kafka.connection import BrokerUnreachable, error_text, producer_options, unreachable
from stream.settings import KafkaSettings

logger = logging.getLogger(__name__)

#: How long a transaction of a process that died may hold back readers, in milliseconds.
TRANSACTION_MILLISECONDS = 10_000
#: How long the broker may be away before the process gives up, in seconds.
PATIENCE_SECONDS = 300.0
_STEP_SECONDS = 5.0


class TransactionAborted(Exception):
    """The transaction is undone; its events must be processed again from the last commit."""


class TransactionalProducer:
    """One transaction at a time.

    Args:
        settings: Where the broker is.
        transactional_id: The name of this producer among all that ever run: whoever starts with it ends the others.

    Raises:
        BrokerUnreachable: The broker does not answer.
    """

    def __init__(self, settings: KafkaSettings, transactional_id: str) -> None:
        from confluent_kafka import Producer

        self._settings = settings
        self._id = transactional_id
        self._producer = Producer(
            producer_options(
                settings,
                **{
                    "transactional.id": transactional_id,
                    "transaction.timeout.ms": TRANSACTION_MILLISECONDS,
                },
            )
        )
        self._open = False
        self._patiently(lambda: self._producer.init_transactions(_STEP_SECONDS))

    def produce(self, topic: str, value: bytes, key: bytes | None = None, headers: Any = None) -> None:
        """Adds a message to the transaction, which begins with its first."""
        if not self._open:
            self._begin()
        try:
            self._producer.produce(topic, value, key, headers=headers or [])
        except BufferError:
            # The queue is full: let some go out.
            self._producer.poll(1.0)
            self._producer.produce(topic, value, key, headers=headers or [])

    def commit(self, offsets: Iterable[Any], group: Any) -> None:
        """Commits what was produced, and how far was consumed.

        Args:
            offsets: `TopicPartition`s with the next offset to consume.
            group: The consumer's `consumer_group_metadata()`.

        Raises:
            TransactionAborted: The transaction is undone.
            BrokerUnreachable: The broker stayed away.
            ConfigError: Another process has taken this one's place.
        """
        if not self._open:
            self._begin()
        offsets = list(offsets)
        self._patiently(lambda: self._producer.send_offsets_to_transaction(offsets, group, _STEP_SECONDS))
        self._patiently(lambda: self._producer.commit_transaction(_STEP_SECONDS))
        self._open = False

    def abort(self) -> None:
        """Undoes what is not committed."""
        if self._open:
            self._open = False
            self._patiently(lambda: self._producer.abort_transaction(_STEP_SECONDS))

    def close(self) -> None:
        """Undoes what is not committed, if the broker is there to be told; else it undoes it by itself in time."""
        try:
            self.abort()
        except AdclickError as error:
            logger.info("a transaction was left open: %s", error.message)

    def _begin(self) -> None:
        self._patiently(self._producer.begin_transaction)
        self._open = True

    def _patiently(self, call: Callable[[], None]) -> None:
        """Calls until the broker answers; each call may be repeated by librdkafka's contract where it says so."""
        from confluent_kafka import KafkaError, KafkaException

        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                call()
                return
            except KafkaException as failure:
                error = failure.args[0]
                fenced = error.code() in (
                    KafkaError._FENCED,
                    KafkaError.INVALID_PRODUCER_EPOCH,
                    KafkaError.PRODUCER_FENCED,
                )
                if error.fatal() or fenced:
                    raise ConfigError(
                        f"another process has taken the place of this one ({self._id}): {error_text(failure)}",
                        "Two must not run under one name: give each its own --instance, or --group.",
                    ) from None
                if error.txn_requires_abort():
                    logger.warning("a transaction is undone and done again: %s", error_text(failure))
                    self.abort()
                    raise TransactionAborted(error_text(failure)) from None
                if not error.retriable() and error.code() != KafkaError._TIMED_OUT:
                    raise BrokerUnreachable(f"Kafka refuses: {error_text(failure)}") from None
                if time.monotonic() > deadline:
                    raise unreachable(self._settings, error_text(failure)) from None
                logger.info("waiting for Kafka: %s", error_text(failure))
