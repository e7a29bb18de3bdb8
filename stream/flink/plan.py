"""In words, among which tasks of Flink the features are parted."""

from __future__ import annotations

from adclick.schema.times import microseconds_of
from adclick.stream.features.feature import in_words
from adclick.stream.flink.batches import BUCKETS
from adclick.stream.settings import StreamSettings


def tasks(settings: StreamSettings) -> str:
    """The tasks of the job that `adclick stream run --flink` submits, as text."""
    flink = settings.flink
    some = "1 task" if flink.parallelism == 1 else f"{flink.parallelism} tasks"
    join = f" and join with impressions by {settings.impression_column}" if settings.joins_impressions else ""
    keeps = ": the partitions' newest times, what waits" + (", the impressions' times" if join else "")
    return "\n".join(
        [
            f"flink     read      {some}: events of messages; what is none is rejected.",
            f"          order     1 task, whatever the parallelism{keeps}.",
            f"                    Only it knows what all partitions have passed: order, lateness{join}",
            "                    are those of one process. What leaves it together is a batch.",
            f"          features  {some}, each with its share of {BUCKETS} buckets of keys,",
            "                    to which a batch's events come in their order.",
            f"          join      {some}: a batch's clicks with their features, once all its buckets have answered.",
            f"          state     by Flink ({flink.state_backend}), written every {flink.checkpoint_interval}; a key's "
            "is forgotten by the clock, after its horizon and the",
            f"                    topics' retention ({in_words(retention(settings))}): never while an event that "
            "needs it may come.",
            f"          out       a transaction of Kafka every {flink.checkpoint_interval}: so long, on average half, "
            "a featured click waits to be read.",
        ]
    )


def retention(settings: StreamSettings) -> int:
    """For how long the topics of events keep one, in microseconds."""
    kept = [settings.topics.clicks, *([settings.topics.impressions] if settings.events.impressions else [])]
    return max(microseconds_of(topic.retention) for topic in kept)
