"""Features as they were served against those of a replay: the same events once more, with the clock out of play."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from adclick.schema.feature_table import FeatureTable
from adclick.stream.clicks import Click, read_click
from adclick.stream.columns import readers_of
from adclick.stream.events import Event
from adclick.stream.features.operator import FeatureOperator
from adclick.stream.ordering import EventOrder
from adclick.stream.settings import StreamSettings
from adclick.stream.stages.reading import messages_until_now
from adclick.stream.state.store import StateStore

_EXAMPLES = 5


@dataclass
class ReplayComparison:
    """What a replay says of features that were served.

    Attributes:
        clicks: Clicks that both have.
        equal: Of them those whose features are equal to the bit.
        late: Clicks that were served without features, since they came late; the replay leaves them out, too.
        missing: Clicks that the replay has and that were not served, such as those that are not judged yet.
        unknown: Clicks that were served and whose events are no longer in Kafka.
        differing: By feature, in how many clicks it differs.
        examples: Of differences, some: the click, the feature, as served, as replayed.
    """

    clicks: int = 0
    equal: int = 0
    late: int = 0
    missing: int = 0
    unknown: int = 0
    differing: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str, float | None, float | None]] = field(default_factory=list)

    def take(self, click: str, served: Mapping[str, float], replayed: Mapping[str, float]) -> None:
        """Compares the features of a click."""
        self.clicks += 1
        names = served.keys() | replayed.keys()
        wrong = sorted(name for name in names if not _same(served.get(name), replayed.get(name)))
        self.equal += not wrong
        for name in wrong:
            self.differing[name] += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append((click, name, served.get(name), replayed.get(name)))


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == other or (math.isnan(one) and math.isnan(other))


def compare_with_replay(settings: StreamSettings, features: FeatureTable, state: StateStore) -> ReplayComparison:
    """Takes all events that Kafka has through the features anew and compares them with `scored-clicks`.

    Args:
        settings: The stream.
        features: The config's columns.
        state: What the stream began with: empty, or a copy of what a backfill left; it is written to.

    Raises:
        ConfigError: A topic is missing.
        BrokerUnreachable: The broker does not answer.
    """
    served: dict[str, Click] = {}
    for message in messages_until_now(settings.kafka, {settings.topics.scored_clicks.name}, "replay"):
        click = read_click(message.value())
        served[click.id] = click
    readers = {getattr(settings.topics, kind).name: reader for kind, reader in readers_of(settings, features).items()}
    order = EventOrder(settings.disorder, ())
    channels: set[tuple[str, int]] = set()
    operator = FeatureOperator(settings, state)
    found = ReplayComparison()
    for message in messages_until_now(settings.kafka, set(readers), "replay"):
        event = readers[message.topic()].read(message.value() or b"", message.partition(), message.offset())
        if not isinstance(event, Event):
            continue
        if event.channel not in channels:
            channels.add(event.channel)
            order.set_channels(channels)
        known = served.get(event.id) if event.kind == "clicks" else None
        if known is not None and known.is_late:
            found.late += 1
            del served[event.id]
        else:
            order.add(event)
    # In one go: what comes in which order from which partition plays no part.
    for event in order.flush():
        replayed = operator.process(event)
        if replayed is None:
            continue
        if event.id in served:
            found.take(event.id, served.pop(event.id).features, replayed)
        else:
            found.missing += 1
    found.unknown = len(served)
    return found
