"""The job that computes the features of the stream on Flink, from Kafka to Kafka.

    clicks, impressions ─► read ─► order (one task) ─► parts of batches ─► features (by key) ─► join ─► featured clicks
                             │             └────────────── heads of batches ──────────────────►┘
                             └─► rejected events

Tables of Flink's connector read and write Kafka: they, unlike its streams in Python, say where a message lies, and
write its key and headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import FeatureTable
from adclick.stream.columns import readers_of
from adclick.stream.events import Channel, Kind
from adclick.stream.features.key_state import features_by_key
from adclick.stream.flink.plan import retention
from adclick.stream.kafka.topics import partitions_of
from adclick.stream.settings import KafkaSettings, StreamSettings

_SHADED = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security"
_LOGIN_MODULES = {
    "PLAIN": f"{_SHADED}.plain.PlainLoginModule",
    "SCRAM-SHA-256": f"{_SHADED}.scram.ScramLoginModule",
    "SCRAM-SHA-512": f"{_SHADED}.scram.ScramLoginModule",
}
#: The broker's greatest, unless it is told otherwise: how long a job may be away and still commit what it had written.
_TRANSACTION_MILLISECONDS = 900_000
_HEADERS = ("reason", "kind", "partition", "offset", "bytes")


@dataclass(frozen=True)
class FlinkJob:
    """What the job computes.

    Attributes:
        settings: The stream.
        features: The config's columns.
        partitions: How many each topic of events has.
    """

    settings: StreamSettings
    features: FeatureTable
    partitions: Mapping[str, int]

    @classmethod
    def of(cls, settings: StreamSettings, features: FeatureTable) -> FlinkJob:
        """The job over a broker's topics as they are.

        Raises:
            ConfigError: One is missing, or there are no features.
            BrokerUnreachable: The broker does not answer.
        """
        if not settings.features:
            raise ConfigError("stream.features: is empty", "Declare the features of clicks.")
        names = [getattr(settings.topics, kind).name for kind in readers_of(settings, features)]
        return cls(settings, features, partitions_of(settings.kafka, names))

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of events that are read."""
        return tuple(readers_of(self.settings, self.features))

    @property
    def channels(self) -> tuple[Channel, ...]:
        """All partitions of all kinds of events."""
        names = {kind: getattr(self.settings.topics, kind).name for kind in self.kinds}
        return tuple((kind, number) for kind, name in names.items() for number in range(self.partitions[name]))

    def kept(self, horizon: int) -> int:
        """How long Flink keeps a state that says nothing after a horizon, in milliseconds of its clock.

        An event is in Kafka for its topic's retention, and so is computed, if ever, at most that long after its time.
        What it needs was stored at the earliest when that happened, a horizon before. The sum is never too short, as
        long as events are produced no slower than they happened.
        """
        return (horizon + retention(self.settings)) // 1000


def job_name(settings: StreamSettings) -> str:
    """What the job is called on the cluster; there is one of a name."""
    return f"adclick stream {settings.kafka.group}"


def consumer_group(settings: StreamSettings) -> str:
    """The consumer group whose progress the job notes at Kafka; where it goes on from is said by its checkpoints."""
    return f"{settings.kafka.group}-flink"


def kafka_properties(settings: KafkaSettings) -> dict[str, str]:
    """What Kafka's Java client is told of the broker.

    Raises:
        ConfigError: A file cannot be read, or there are options that only librdkafka knows.
    """
    if settings.options:
        raise ConfigError(
            f"stream.kafka.options ({', '.join(settings.options)}) are librdkafka's: Flink's client has other ones",
            "Leave them out of the config that --flink is given.",
        )
    properties = {
        "bootstrap.servers": settings.bootstrap_servers,
        "security.protocol": settings.security_protocol,
        "isolation.level": "read_committed",
        "fetch.max.wait.ms": "50",
        "reconnect.backoff.max.ms": "1000",
    }
    if settings.sasl_mechanism:
        password = "" if settings.sasl_password_file is None else _text(settings.sasl_password_file).rstrip("\n")
        login = " ".join(
            f'{name}="{_escaped(value)}"'
            for name, value in {"username": settings.sasl_username, "password": password}.items()
        )
        properties["sasl.mechanism"] = settings.sasl_mechanism
        properties["sasl.jaas.config"] = f"{_LOGIN_MODULES[settings.sasl_mechanism]} required {login};"
    # Contents, not paths: task managers are other machines.
    if settings.authority_file is not None:
        properties["ssl.truststore.type"] = "PEM"
        properties["ssl.truststore.certificates"] = _text(settings.authority_file)
    if settings.certificate_file is not None and settings.key_file is not None:
        properties["ssl.keystore.type"] = "PEM"
        properties["ssl.keystore.certificate.chain"] = _text(settings.certificate_file)
        properties["ssl.keystore.key"] = _text(settings.key_file)
    return properties


def _text(file: Any) -> str:
    try:
        return str(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}", "Correct stream.kafka.") from None


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def build(environment: Any, job: FlinkJob) -> None:
    """Adds the job to an environment of PyFlink's, which then executes it.

    Args:
        environment: A `StreamExecutionEnvironment` that has the connector's jar.
        job: What is computed.
    """
    from pyflink.common import Types
    from pyflink.table import Schema, StreamTableEnvironment, TableDescriptor
    from pyflink.table.types import DataTypes

    from adclick.stream.flink import functions

    settings, topics = job.settings, job.settings.topics
    properties = {f"properties.{name}": value for name, value in kafka_properties(settings.kafka).items()}
    tables = StreamTableEnvironment.create(environment)

    def table(name: str, topic: str, schema: Any, options: Mapping[str, str]) -> None:
        builder = TableDescriptor.for_connector("kafka").schema(schema).option("topic", topic)
        for key, value in (properties | dict(options)).items():
            builder = builder.option(key, value)
        tables.create_temporary_table(name, builder.build())

    selects = []
    for number, kind in enumerate(job.kinds):
        schema = (
            Schema.new_builder()
            .column("payload", DataTypes.BYTES())
            .column_by_metadata("partition", DataTypes.INT(), "partition", True)
            .column_by_metadata("offset", DataTypes.BIGINT(), "offset", True)
            .build()
        )
        options = {
            "format": "raw",
            "properties.group.id": consumer_group(settings),
            # Without a checkpoint there is no state either.
            "scan.startup.mode": "earliest-offset",
            # The order waits for the partitions that it was told of.
            "scan.topic-partition-discovery.interval": "0 ms",
        }
        table(kind, getattr(topics, kind).name, schema, options)
        selects.append(f"SELECT CAST({number} AS INT), payload, `partition`, `offset` FROM {kind}")
    rows = tables.to_data_stream(tables.sql_query(" UNION ALL ".join(selects)))

    events = rows.process(functions.ReadEvents(settings, job.features, job.kinds), functions.BYTES).name("read events")
    impressions_kept = job.kept(settings.impression_window)
    states_kept = job.kept(max((keyed.horizon for keyed in features_by_key(settings.features)), default=0))
    order = functions.OrderEvents(settings, job.channels, impressions_kept)
    parts = events.key_by(lambda _: 0, Types.INT()).process(order, functions.PART).name("order").uid("order")
    # Of one key.
    parts.set_parallelism(1)
    results = (
        parts.key_by(lambda part: part[0], Types.INT())
        .process(functions.ComputeFeatures(settings, states_kept), functions.RESULT)
        .name("features")
        .uid("features")
    )
    featured = (
        parts.get_side_output(functions.HEADS)
        .union(results)
        .key_by(lambda result: result[0], Types.LONG())
        .process(functions.JoinBatches(), functions.FEATURED)
        .name("join")
        .uid("join")
    )

    sink = {
        "sink.delivery-guarantee": "exactly-once",
        "properties.transaction.timeout.ms": str(_TRANSACTION_MILLISECONDS),
        "properties.acks": "all",
        "properties.compression.type": "lz4",
    }
    table(
        "featured_clicks",
        topics.featured_clicks.name,
        Schema.new_builder().column("id", DataTypes.BYTES()).column("payload", DataTypes.BYTES()).build(),
        sink
        | {
            "key.format": "raw",
            "key.fields": "id",
            "value.format": "raw",
            "value.fields-include": "EXCEPT_KEY",
            "sink.transactional-id-prefix": f"{consumer_group(settings)}-featured",
        },
    )
    table(
        "rejected_events",
        topics.rejected_events.name,
        Schema.new_builder()
        .column("payload", DataTypes.BYTES())
        .column_by_metadata("headers", DataTypes.MAP(DataTypes.STRING(), DataTypes.BYTES()), "headers", False)
        .build(),
        sink | {"value.format": "raw", "sink.transactional-id-prefix": f"{consumer_group(settings)}-rejected"},
    )
    tables.create_temporary_view("featured", featured)
    tables.create_temporary_view("rejected", events.get_side_output(functions.REJECTED))
    headers = ", ".join(f"'{name}', f{number}" for number, name in enumerate(_HEADERS, 1))
    statements = tables.create_statement_set()
    statements.add_insert_sql("INSERT INTO featured_clicks SELECT id, payload FROM featured")
    statements.add_insert_sql(f"INSERT INTO rejected_events SELECT f0, MAP[{headers}] FROM rejected")
    statements.attach_as_datastream()
