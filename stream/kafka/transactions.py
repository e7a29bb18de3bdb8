"""Consume, process, produce as one Kafka transaction: readers of committed messages see each result once.

What is produced and how far was consumed become visible together or not at all (KIP-98, KIP-447). A process that dies
within a transaction leaves nothing behind: the next one of the same name ends what it had begun.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from functools import partial
from typing import Any, NoReturn

from adclick.schema.errors import ConfigError
from adclick.stream.kafka.connection import BrokerUnreachable, error_text, patiently, producer_options
from adclick.stream.settings import KafkaSettings

logger = logging.getLogger(__name__)

#: How long a transaction of a process that died may hold back readers, in milliseconds.
TRANSACTION_MILLISECONDS = 10_000
_ANSWER_SECONDS = 10.0


class TransactionAborted(Exception):
    """The transaction is undone, or, where the broker went away as it was committed, perhaps not.

    What the group has committed says which; the events from there on must be processed again.
    """


class TransactionalProducer:
    """One transaction at a time, by two clients in turn.

    What is committed the broker has yet to mark in each partition, and until then refuses the client's next
    transaction; librdkafka asks again only after some 100 ms. The other client need not wait.

    Args:
        settings: Where the broker is.
        transactional_id: The name of this producer among all that ever run: whoever starts with it ends the others.
            The second client adds `/2` to it.

    Raises:
        BrokerUnreachable: The broker does not answer.
        ConfigError: Another process takes this one's place.
    """

    def __init__(self, settings: KafkaSettings, transactional_id: str) -> None:
        self._settings = settings
        self._ids = (transactional_id, f"{transactional_id}/2")
        self._turn = 0
        self._begun: float | None = None
        self._clients: list[Any] = self._started_all()

    def produce(self, topic: str, value: bytes, key: bytes | None = None, headers: Any = None) -> None:
        """Adds a message to the transaction, which begins with its first.

        Raises:
            TransactionAborted, BrokerUnreachable, ConfigError: See `commit`.
        """
        self._begin()
        try:
            self._client.produce(topic, value, key, headers=headers or [])
        except BufferError:
            # The queue is full: let some go out.
            self._client.poll(1.0)
            self._client.produce(topic, value, key, headers=headers or [])

    def commit(self, offsets: Iterable[Any], group: Any) -> None:
        """Commits what was produced, and how far was consumed.

        Args:
            offsets: `TopicPartition`s with the next offset to consume.
            group: The consumer's `consumer_group_metadata()`.

        Raises:
            TransactionAborted: See there.
            BrokerUnreachable: The broker stayed away, or refuses.
            ConfigError: Another process has taken this one's place.
        """
        from confluent_kafka import KafkaException

        self._begin()
        try:
            self._client.send_offsets_to_transaction(list(offsets), group, _ANSWER_SECONDS)
            self._client.commit_transaction(_ANSWER_SECONDS)
        except KafkaException as failure:
            self._give_up(failure)
        self._begun = None
        self._turn = 1 - self._turn

    def close(self) -> None:
        """Undoes what is not committed, if the broker is there to be told; else it undoes it by itself in time."""
        from confluent_kafka import KafkaException

        if self._begun is None:
            return
        try:
            self._client.abort_transaction(_ANSWER_SECONDS)
        except KafkaException as error:
            logger.info("a transaction was left open: %s", error_text(error))

    @property
    def _client(self) -> Any:
        """Whose turn it is."""
        return self._clients[self._turn]

    def _begin(self) -> None:
        from confluent_kafka import KafkaException

        if self._begun is None:
            self._begun = time.monotonic()
            try:
                self._client.begin_transaction()
            except KafkaException as failure:
                self._give_up(failure)

    def _started_all(self) -> list[Any]:
        """Both clients anew, before anything is read: what a process that died had begun by either is ended then."""
        self._clients = []
        return [patiently(self._settings, partial(self._started, name)) for name in self._ids]

    def _started(self, transactional_id: str) -> Any:
        """A client that has ended what another of its name had begun."""
        from confluent_kafka import KafkaException, Producer

        options = {"transactional.id": transactional_id, "transaction.timeout.ms": TRANSACTION_MILLISECONDS}
        producer = Producer(producer_options(self._settings, **options))
        try:
            producer.init_transactions(_ANSWER_SECONDS)
        except KafkaException as failure:
            if _is_fenced(failure):
                self._refuse(failure)
            raise
        return producer

    def _give_up(self, failure: Any) -> NoReturn:
        """Leaves the transaction to a new client, which ends it.

        librdkafka waits without end where it is asked once more after a broker that kept its transactions went away,
        the client whose turn it was not, too.
        """
        from confluent_kafka import KafkaError

        error = failure.args[0]
        age = time.monotonic() - (self._begun or 0.0)
        self._begun = None
        # One that took too long is ended by the broker, which shuts its producer out as if there were another.
        if _is_fenced(failure) and age < TRANSACTION_MILLISECONDS / 1000:
            self._refuse(failure)
        may_pass = error.retriable() or error.fatal() or error.txn_requires_abort()
        if not may_pass and not _is_fenced(failure) and error.code() != KafkaError._TIMED_OUT:
            raise BrokerUnreachable(f"Kafka refuses: {error_text(failure)}")
        logger.warning("a transaction is undone and done again: %s", error_text(failure))
        self._clients = self._started_all()
        raise TransactionAborted(error_text(failure))

    def _refuse(self, failure: Any) -> NoReturn:
        raise ConfigError(
            f"another process has taken the place of this one ({self._ids[0]}): {error_text(failure)}",
            "Two must not run under one name: give each its own --instance, or --group.",
        )


def _is_fenced(failure: Any) -> bool:
    from confluent_kafka import KafkaError

    codes = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED)
    return failure.args[0].code() in codes
