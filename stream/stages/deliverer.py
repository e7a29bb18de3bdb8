"""Tells receivers of alerts, each at its own pace and in order, at least once: by a key they know what they had."""

from __future__ import annotations

import logging
import threading

from adclick.stream.alerts.receivers import AlertReceiver, Undelivered
from adclick.stream.kafka.connection import consumer_options
from adclick.stream.metrics import StreamMetrics
from adclick.stream.settings import StreamSettings

logger = logging.getLogger(__name__)

_IDLE_SECONDS = 0.2


class Deliverer:
    """A thread that tells one receiver, as a consumer group of its own.

    Args:
        settings: The stream.
        receiver: Who is told.
        metrics: Where it counts.
    """

    def __init__(self, settings: StreamSettings, receiver: AlertReceiver, metrics: StreamMetrics) -> None:
        self._settings = settings
        self._receiver = receiver
        self._metrics = metrics
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"deliver-{receiver.name}", daemon=True)
        metrics.expect_receiver(receiver.name)
        self._thread.start()

    def close(self) -> None:
        """Ends it after what it is telling; what was not told is told at the next start."""
        self._stopping.set()
        self._thread.join(10)

    def _run(self) -> None:
        import orjson
        from confluent_kafka import Consumer

        group = f"{self._settings.kafka.group}-{self._receiver.name}"
        consumer = Consumer(consumer_options(self._settings.kafka, group, **{"enable.partition.eof": False}))
        consumer.subscribe([self._settings.topics.alerts.name])
        try:
            while not self._stopping.is_set():
                message = consumer.poll(_IDLE_SECONDS)
                if message is None or message.error() is not None:
                    continue
                body = message.value() or b""
                try:
                    self._receiver.deliver(orjson.loads(body), body)
                    self._metrics.count_delivery(self._receiver.name, "delivered")
                except Undelivered as error:
                    self._metrics.count_delivery(self._receiver.name, "failed")
                    logger.error("an alert was not delivered: %s", error)
                except (ValueError, KeyError, TypeError) as error:
                    self._metrics.count_delivery(self._receiver.name, "failed")
                    logger.error("what is in topic %s is no alert: %s", message.topic(), error)
                consumer.commit(message, asynchronous=False)
        except Exception:
            logger.exception("telling %s ended", self._receiver.name)
        finally:
            consumer.close()
            self._receiver.close()
