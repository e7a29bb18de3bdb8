"""A click on its way from its features to the judgement, and how each stage writes it for the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adclick.stream.events import iso_time


@dataclass(frozen=True, slots=True)
class Click:
    """A click with its features.

    Attributes:
        id: What names it.
        time: When it happened, in microseconds since 1970, UTC.
        fields: Its columns by their names in events.
        features: The features of the stream that are known of it.
        is_late: Whether it came after its watermark, and so has no features.
        partition: Of the topic that it came by.
        offset: In the partition.
    """

    id: str
    time: int
    fields: Mapping[str, str | float]
    features: Mapping[str, float]
    is_late: bool = False
    partition: int = 0
    offset: int = 0

    def value(self, column: str) -> str | float | None:
        """The value of a column or feature; None if it is missing."""
        found = self.fields.get(column)
        return self.features.get(column) if found is None else found


@dataclass(frozen=True, slots=True)
class ScoredClick:
    """A click as it was judged.

    Attributes:
        click: The click.
        fraud_probability: The model's answer; None where it was no probability.
        model_version: The version that answered.
        is_alerting: Whether the probability is at or above the version's threshold.
    """

    click: Click
    fraud_probability: float | None
    model_version: int
    is_alerting: bool


@dataclass(frozen=True)
class Evidence:
    """What speaks for fraud in a click.

    Attributes:
        column: The column.
        value: Its value; None if it is missing.
        contribution: What it adds to the logit against a click of which nothing is known.
    """

    column: str
    value: str | float | None
    contribution: float


def featured_bytes(click: Click) -> bytes:
    """A click with its features as JSON."""
    import orjson

    return orjson.dumps(_document(click))


def scored_bytes(scored: ScoredClick) -> bytes:
    """A judged click as JSON."""
    import orjson

    return orjson.dumps(
        _document(scored.click)
        | {
            "fraud_probability": scored.fraud_probability,
            "model_version": scored.model_version,
            "is_alerting": scored.is_alerting,
        }
    )


def _document(click: Click) -> dict[str, Any]:
    return {
        "click_id": click.id,
        "time": iso_time(click.time),
        "time_us": click.time,
        "fields": click.fields,
        "features": click.features,
        "late": click.is_late,
    }


def read_click(payload: bytes, partition: int = 0, offset: int = 0) -> Click:
    """A click from what `featured_bytes` or `scored_bytes` wrote.

    Raises:
        ValueError: It is something else.
    """
    import orjson

    return _click(orjson.loads(payload), partition, offset)


def read_scored(payload: bytes, partition: int = 0, offset: int = 0) -> ScoredClick:
    """A judged click from what `scored_bytes` wrote.

    Raises:
        ValueError: It is something else.
    """
    import orjson

    document = orjson.loads(payload)
    click = _click(document, partition, offset)
    try:
        return ScoredClick(
            click, document["fraud_probability"], int(document["model_version"]), bool(document["is_alerting"])
        )
    except KeyError as error:
        raise ValueError(f"no judged click: {error} is missing") from None


def _click(document: Any, partition: int, offset: int) -> Click:
    try:
        return Click(
            document["click_id"],
            document["time_us"],
            document["fields"],
            document["features"],
            document["late"],
            partition,
            offset,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no click of a stage: {error}") from None
