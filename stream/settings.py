"""What a config says about the stream: its events, their features, and where they go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from adclick.schema.times import microseconds_of
from adclick.stream.features.feature import SECONDS_TO_CLICK
from adclick.stream.features.kinds import AnyFeature


def _length(text: str) -> str:
    microseconds_of(text)
    return text


#: A length of time as people write it, such as 20ms or 7d.
Length = Annotated[str, AfterValidator(_length)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EventSettings(_Settings):
    """How the events of one kind are written: JSON objects, or rows of CSV files, with these among their columns."""

    id: str | None = Field(
        description="The column that names the event; null where there is none: events are then called by their "
        "partition and place in it."
    )
    time: str = Field("time", description="The column that says when it happened.")
    time_format: str = Field(
        "iso8601",
        description="`iso8601`, `epoch_seconds`, `epoch_milliseconds`, or a strptime pattern; UTC unless the text says "
        "otherwise.",
    )


class EventsSettings(_Settings):
    """What comes in."""

    clicks: EventSettings = Field(
        EventSettings(id="click_id"), description="The events that are judged; their columns are those of `features`."
    )
    impressions: EventSettings | None = Field(
        None, description="The impressions that clicks come of, if they are at hand."
    )
    impression_of_click: str | None = Field(
        None, description="The clicks' column that names the impression; the impressions' `id` if not given."
    )
    impression_window: Length = Field(
        "1d", description="How long after its impression a click may come; an older impression is not known."
    )
    max_bytes: int = Field(65_536, ge=64, description="A larger message is rejected.")


class TopicSettings(_Settings):
    """One topic of the broker."""

    name: str = Field(description="Its name.", min_length=1, max_length=249, pattern=r"^[a-zA-Z0-9._-]+$")
    partitions: int = Field(4, ge=1, le=1000, description="How many partitions it is made with.")
    retention: Length = Field("7d", description="How long the broker keeps its events.")


class TopicsSettings(_Settings):
    """The topics of the broker; `adclick stream topics` makes them."""

    impressions: TopicSettings = Field(TopicSettings(name="impressions"), description="Impressions, as JSON.")
    clicks: TopicSettings = Field(TopicSettings(name="clicks"), description="Clicks, as JSON.")
    featured_clicks: TopicSettings = Field(
        TopicSettings(name="featured-clicks", retention="1d"),
        description="Clicks with their features, between stages that run apart.",
    )
    scored_clicks: TopicSettings = Field(
        TopicSettings(name="scored-clicks", retention="30d"), description="Clicks as they were judged."
    )
    alerts: TopicSettings = Field(
        TopicSettings(name="alerts", partitions=1, retention="90d"), description="Alerts, each revision a message."
    )
    rejected_events: TopicSettings = Field(
        TopicSettings(name="rejected-events", partitions=1, retention="30d"),
        description="What was no event: its bytes, with the reason in the headers.",
    )
    verdicts: TopicSettings | None = Field(
        None,
        description="Verdicts on clicks as they come in, as JSON of the form of `history.verdicts`, which hold over "
        "those of files; none is read if not declared.",
    )
    replication_factor: int = Field(1, ge=1, description="How many brokers hold each topic; 3 in production.")

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, document: Any) -> Any:
        """What a config does not say of a topic is as where it says nothing."""
        if not isinstance(document, dict):
            return document
        defaults = {key: field.default for key, field in cls.model_fields.items()}
        return {
            key: {**defaults[key].model_dump(), **value}
            if isinstance(value, dict) and isinstance(defaults.get(key), TopicSettings)
            else value
            for key, value in document.items()
        }


class KafkaSettings(_Settings):
    """How the broker is reached."""

    bootstrap_servers: str = Field("localhost:9092", description="Brokers to begin with, as host:port, by comma.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="With or without TLS (SSL) and a login (SASL)."
    )
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field("", description="How to log in.")
    sasl_username: str = Field("", description="As whom.")
    sasl_password_file: Path | None = Field(None, description="A file that holds the password.")
    authority_file: Path | None = Field(None, description="TLS: certificates of the authorities that are trusted.")
    certificate_file: Path | None = Field(None, description="TLS: this client's own certificate.")
    key_file: Path | None = Field(None, description="TLS: the key of it.")
    group: str = Field("adclick", min_length=1, description="The consumer group, whose progress the broker keeps.")
    options: dict[str, str] = Field({}, description="Further options of librdkafka, by its own names.")


class FlinkSettings(_Settings):
    """How `adclick stream run --flink` has Flink compute the features."""

    parallelism: int = Field(1, ge=1, le=16, description="Among how many tasks keys are parted.")
    checkpoint_interval: Length = Field(
        "200ms",
        description="How often a transaction ends: featured clicks are read when one does. Each writes what has "
        "changed in the state.",
    )
    checkpoints: str | None = Field(
        None,
        description="Where checkpoints are: a folder that the cluster and this machine share, or the URI of a bucket "
        "that the cluster knows; `flink_state` below `output` by default.",
    )
    state_backend: Literal["rocksdb", "hashmap"] = Field(
        "rocksdb", description="Where tasks keep the state: on disk, or in Java's memory."
    )
    python: str = Field("python", description="Python on the task managers, with this package and its extra `flink`.")


class ScorerSettings(_Settings):
    """How clicks are scored."""

    backend: Literal["in_process", "grpc"] = Field(
        "in_process",
        description="`in_process` loads versions from the push directory; `grpc` asks a server that speaks TensorFlow "
        "Serving's API.",
    )
    address: str = Field("", description="`host:port` of the server for grpc.")
    timeout_seconds: float = Field(10.0, gt=0, description="After how long a batch is asked for again.")
    poll_seconds: float = Field(1.0, gt=0, description="How often to look for a new version.")
    batch_rows: int = Field(4096, ge=1, description="Clicks that are consumed, and scored, at most at a time.")


class WebhookSettings(_Settings):
    """Where alerts are posted."""

    url: str = Field("", description="Gets each revision of an alert as JSON; nobody does if empty.")
    secret_file: Path | None = Field(
        None, description="A file with the key of the signature, HMAC-SHA256 over time and body; unsigned without."
    )
    timeout_seconds: float = Field(5.0, gt=0, description="After how long an attempt is given up.")
    retry_seconds: float = Field(
        300.0, ge=0, description="For how long it is tried again before it is counted as undelivered."
    )


class AlertmanagerSettings(_Settings):
    """Prometheus' Alertmanager, which groups, silences and routes alerts to people."""

    url: str = Field("", description="Its address, such as http://alertmanager:9093; not told if empty.")
    labels: dict[str, str] = Field({}, description="Labels of every alert, such as `team: traffic`.")


class AlertsSettings(_Settings):
    """When an alert is raised, and to whom it goes."""

    false_positive_rate: float = Field(
        0.001,
        gt=0,
        lt=1,
        description="The share of honest clicks that may be taken for fraud. The threshold at it, on held-out clicks, "
        "is stored with each version.",
    )
    threshold: float | None = Field(
        None, gt=0, lt=1, description="A click of at least this fraud probability counts, whatever the version says."
    )
    entities: tuple[tuple[str, ...], ...] = Field(
        (),
        description="What an alert is about: each a list of columns, such as `[publisher_id]`, `[device_id]`, `[ip]`, "
        "the widest first. A click counts for the first that has an open alert; each click by itself if empty.",
    )
    minimum_clicks: int = Field(
        3, ge=1, description="An alert opens with so many suspicious clicks of an entity: fewer may be chance."
    )
    minimum_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="And where they are so great a share of its clicks since the first of them: a large publisher has "
        "some by chance.",
    )
    quiet: Length = Field(
        "10m", description="An alert closes when its entity had no suspicious click for so long, by the events' time."
    )
    cost: str | None = Field(None, description="The numeric column that says what a click costs.")
    evidence: int = Field(3, ge=0, description="How many columns an alert names as its evidence.")
    webhook: WebhookSettings = Field(default_factory=WebhookSettings)
    alertmanager: AlertmanagerSettings = Field(default_factory=AlertmanagerSettings)


class HistorySettings(_Settings):
    """Where past events are, for `adclick stream backfill`: files of JSON lines or CSV, gzipped or not."""

    clicks: str | None = Field(
        None, description="The files of clicks: a file, a folder or a pattern, read in the order of their names."
    )
    impressions: str | None = Field(None, description="The files of impressions.")
    verdicts: str | None = Field(
        None,
        description="The files of verdicts, which say of a click by its id what it was found to be, in the label's "
        "column; of several on a click the last one holds. Without them the clicks hold the label themselves.",
    )
    verdict_id: str | None = Field(
        None, description="The verdicts' column that names the click; the clicks' `id` if not given."
    )
    unlabelled: Literal["left out", "negative"] = Field(
        "left out", description="What becomes of a click without a verdict: not trained on, or taken for a negative."
    )


class StreamSettings(_Settings):
    """Events as they come, their features and alerts."""

    events: EventsSettings = Field(default_factory=EventsSettings)
    features: dict[str, AnyFeature] = Field(
        {}, description="The features of clicks by name; each becomes a column of the model. See below."
    )
    max_out_of_orderness: Length = Field(
        "20ms",
        description="How far behind the newest event of its partition one may come; all wait so long. Later ones are "
        "counted, and scored without features.",
    )
    idle_after: Length = Field(
        "200ms",
        description="A partition that is at its end and silent for so long is waited for no longer, and after a lull "
        "none earlier. Its events that come then, of times that have gone by, are late.",
    )
    state: Path | None = Field(
        None, description="The folder of the features' state on disk; `stream_state` below `output` by default."
    )
    history: HistorySettings = Field(default_factory=HistorySettings)
    topics: TopicsSettings = Field(default_factory=TopicsSettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    flink: FlinkSettings = Field(default_factory=FlinkSettings)
    scorer: ScorerSettings = Field(default_factory=ScorerSettings)
    alerts: AlertsSettings = Field(default_factory=AlertsSettings)

    @property
    def disorder(self) -> int:
        """`max_out_of_orderness` in microseconds."""
        return microseconds_of(self.max_out_of_orderness)

    @property
    def idle_seconds(self) -> float:
        """`idle_after` in seconds."""
        return microseconds_of(self.idle_after) / 1_000_000

    @property
    def impression_window(self) -> int:
        """`events.impression_window` in microseconds."""
        return microseconds_of(self.events.impression_window)

    @property
    def joins_impressions(self) -> bool:
        """Whether a feature needs to know a click's impression."""
        return any(feature.needs_impressions for feature in self.features.values())

    @property
    def impression_column(self) -> str | None:
        """The clicks' column that names the impression; None where there are no impressions."""
        if self.events.impressions is None:
            return None
        return self.events.impression_of_click or self.events.impressions.id

    @property
    def has_verdicts(self) -> bool:
        """Whether what clicks were found to be is told apart from them, by files or a topic."""
        return self.history.verdicts is not None or self.topics.verdicts is not None

    @property
    def text_columns(self) -> frozenset[str]:
        """The columns that features read as text."""
        joined = () if self.impression_column is None else (self.impression_column,)
        return frozenset(joined).union(*(feature.texts for feature in self.features.values()))

    @property
    def number_columns(self) -> frozenset[str]:
        """The columns that features read as numbers."""
        return frozenset().union(*(feature.numbers for feature in self.features.values())) - {SECONDS_TO_CLICK}

    @model_validator(mode="after")
    def _consistent(self) -> StreamSettings:
        if self.events.impressions is not None and self.events.impressions.id is None:
            raise ValueError("events.impressions.id is null: clicks name their impression by its id")
        if self.has_verdicts and self.events.clicks.id is None:
            raise ValueError("verdicts are declared, but events.clicks.id is null: verdicts name clicks by it")
        for name, feature in self.features.items():
            if (feature.of == "impressions" or feature.needs_impressions) and self.events.impressions is None:
                raise ValueError(f"features.{name} needs impressions, but events.impressions is not declared")
        if SECONDS_TO_CLICK in self.text_columns:
            raise ValueError(f"features read {SECONDS_TO_CLICK!r} as text: it is the time from impression to click")
        both = sorted(self.text_columns & self.number_columns)
        if both:
            raise ValueError(f"features read the column {both[0]!r} both as text and as a number")
        return self
