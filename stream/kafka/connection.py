"""What librdkafka is told of the broker: addresses, TLS, SASL, and what each role needs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from adclick.schema.errors import AdclickError, ConfigError
from adclick.stream.settings import KafkaSettings

#: How long an answer of the broker is waited for where a person waits, in seconds.
ANSWER_SECONDS = 30.0
#: How long the broker may be away before a process gives up, in seconds.
PATIENCE_SECONDS = 300.0
_STEP_SECONDS = 2.0
_PAUSE_SECONDS = 0.2

Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)
_client_logger = logging.getLogger(f"{__name__}.client")
# Each attempt to reach a broker that is away, many a second; that it is waited for is said where it is waited.
_client_logger.addFilter(lambda record: not record.getMessage().startswith("FAIL "))


class BrokerUnreachable(AdclickError):
    """The broker cannot be reached, or refuses; nothing was lost: what was not committed is done again."""

    exit_code = 2


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """What every client is given.

    Raises:
        ConfigError: A file that holds a secret cannot be read.
    """
    options: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap_servers,
        "security.protocol": settings.security_protocol,
        # A broker that restarts is found again at once, not after ten seconds.
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        "logger": _client_logger,
    }
    named = {
        "sasl.mechanism": settings.sasl_mechanism,
        "sasl.username": settings.sasl_username,
        "ssl.ca.location": settings.authority_file,
        "ssl.certificate.location": settings.certificate_file,
        "ssl.key.location": settings.key_file,
    }
    options |= {name: str(value) for name, value in named.items() if value}
    if settings.sasl_password_file is not None:
        try:
            options["sasl.password"] = settings.sasl_password_file.read_text().rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{settings.sasl_password_file}: cannot be read: {error}", "Correct stream.kafka.sasl_password_file."
            ) from None
    return options | dict(settings.options)


def consumer_options(settings: KafkaSettings, group: str, **others: Any) -> dict[str, Any]:
    """What a consumer of committed events is given; it commits nothing by itself."""
    return (
        client_options(settings)
        | {
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            # The broker answers as soon as there is anything.
            "fetch.wait.max.ms": 100,
            "fetch.min.bytes": 1,
            # Else the wait after an empty answer costs the latency of the next event.
            "fetch.queue.backoff.ms": 10,
            "queued.max.messages.kbytes": 32_768,
        }
        | others
    )


def producer_options(settings: KafkaSettings, **others: Any) -> dict[str, Any]:
    """What a producer whose every message is acknowledged by all replicas is given."""
    return (
        client_options(settings)
        | {
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 0,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
        }
        | others
    )


class Administration:
    """A client for topics, which knows why a broker does not answer.

    Attributes:
        client: The client.

    Args:
        settings: Where the broker is.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        from confluent_kafka.admin import AdminClient

        self._settings = settings
        self._faults: list[Any] = []
        # What is asked only says that there was no answer in time; the reason comes beside it.
        self.client: Any = AdminClient(client_options(settings) | {"error_cb": self._faults.append})

    def partitions(self) -> dict[str, int]:
        """How many partitions each topic has that there is.

        Raises:
            BrokerUnreachable: The broker does not answer, or lets this client not in.
        """
        from confluent_kafka import KafkaException

        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                topics: Mapping[str, Any] = self.client.list_topics(timeout=_STEP_SECONDS).topics
                return {name: len(topic.partitions) for name, topic in topics.items() if topic.error is None}
            except KafkaException as error:
                self.client.poll(0)
                if any(map(_is_refusal, self._faults)) or time.monotonic() > deadline:
                    raise self.unreachable(error) from None

    def unreachable(self, error: object) -> BrokerUnreachable:
        """What a person should know where the broker does not answer, with the first reasons."""
        reasons = list(dict.fromkeys(map(error_text, self._faults)))[:2]
        return unreachable(self._settings, "; ".join([error_text(error), *reasons]))


def _is_refusal(fault: Any) -> bool:
    """Whether asking again cannot help; an alert of the broker's TLS counts as lost transport."""
    from confluent_kafka import KafkaError

    return fault.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL) or "SSL alert number" in fault.str()


def unreachable(settings: KafkaSettings, error: object) -> BrokerUnreachable:
    """What a person should know where the broker does not answer."""
    return BrokerUnreachable(
        f"Kafka at {settings.bootstrap_servers} does not answer: {error}",
        "Is it running, and do --bootstrap-servers and stream.kafka (security_protocol, SASL, TLS) fit it? "
        "`adclick stream demo --kafka` starts one on this machine.",
    )


def patiently(settings: KafkaSettings, ask: Callable[[], Answer]) -> Answer:
    """Asks until the broker answers; one that has just started may know nothing for some seconds.

    Raises:
        BrokerUnreachable: It stayed away.
    """
    from confluent_kafka import KafkaException

    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise unreachable(settings, error_text(error)) from None
            logger.info("waiting for Kafka: %s", error_text(error))
            time.sleep(_PAUSE_SECONDS)


def error_text(error: Any) -> str:
    """A Kafka error in words."""
    described: Mapping[str, Any] | Any = error.args[0] if getattr(error, "args", None) else error
    return str(getattr(described, "str", lambda: described)())
