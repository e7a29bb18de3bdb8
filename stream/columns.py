"""Which columns of events are read, and how, by what the config declares of the model and of the stream."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from adclick.schema.feature_table import FeatureTable, Identifier, Timestamp
from adclick.stream.events import EventReader, Kind
from adclick.stream.settings import StreamSettings


def model_columns(stream: StreamSettings, features: FeatureTable) -> tuple[str, ...]:
    """The columns of the model, the label among them, that a click brings itself."""
    return tuple(
        name
        for name, column in features.used.items()
        if name not in stream.features and not isinstance(column, Identifier | Timestamp)
    )


def click_reader(stream: StreamSettings, features: FeatureTable, missing: Collection[str] = ("",)) -> EventReader:
    """Reads clicks, with the columns of the model and those that features of the stream are computed from.

    Args:
        stream: How clicks are called, and the features.
        features: The columns of the model.
        missing: Texts that mean a missing value in any column.
    """
    names = dict.fromkeys((*model_columns(stream, features), *sorted(stream.text_columns | stream.number_columns)))
    quantities = {n for n, column in features.used.items() if column.is_quantity}
    return EventReader(
        "clicks",
        stream.events.clicks,
        tuple(names),
        frozenset(quantities & set(names)) | stream.number_columns,
        frozenset(missing),
        stream.events.max_bytes,
        {name: features.source_of(name) for name in names if name in features.root},
    )


def impression_reader(
    stream: StreamSettings, features: FeatureTable, missing: Collection[str] = ("",)
) -> EventReader | None:
    """Reads impressions, with the columns that features of the stream are computed from; None where there are none."""
    if stream.events.impressions is None:
        return None
    joined = frozenset() if stream.impression_column is None else frozenset({stream.impression_column})
    names = tuple(sorted((stream.text_columns | stream.number_columns) - joined))
    return EventReader(
        "impressions",
        stream.events.impressions,
        names,
        stream.number_columns,
        frozenset(missing),
        stream.events.max_bytes,
        {name: features.source_of(name) for name in names if name in features.root},
    )


def readers_of(settings: StreamSettings, features: FeatureTable) -> dict[Kind, EventReader]:
    """How events are read: what model and features need of them, and of clicks what alerts tell."""
    clicks = click_reader(settings, features)
    told = {name for entity in settings.alerts.entities for name in entity} - set(settings.features)
    cost = {settings.alerts.cost} if settings.alerts.cost else set()
    added = (told | cost) - set(clicks.columns)
    clicks = replace(
        clicks,
        columns=(*clicks.columns, *sorted(added)),
        numbers=frozenset(clicks.numbers) | cost,
        sources={**clicks.sources, **{name: features.source_of(name) for name in added if name in features.root}},
    )
    impressions = impression_reader(settings, features)
    return {"clicks": clicks} if impressions is None else {"impressions": impressions, "clicks": clicks}
