"""What is computed from which events, in words."""

from __future__ import annotations

from adclick.stream.features.feature import in_words
from adclick.stream.features.join import ImpressionJoin
from adclick.stream.features.key_state import features_by_key
from adclick.stream.features.time_to_click import TimeToClick
from adclick.stream.settings import StreamSettings


def plan(settings: StreamSettings) -> str:
    """The stages that an event goes through, the key and the state of each, as text."""
    events = settings.events
    kinds, tie = (
        ("clicks", "by") if events.impressions is None else ("impressions and clicks", "impressions first, then by")
    )
    lines = [
        f"order     {kinds}, by their time: at one time {tie} id.",
        f"          Each waits until every partition has passed it by {settings.max_out_of_orderness}; what is further "
        "behind its own partition",
        "          is late: counted, and scored without features.",
    ]
    if settings.joins_impressions:
        join = ImpressionJoin(settings.impression_column or "", settings.impression_window)
        lines += [
            "",
            f"join      a click with its impression, by {settings.impression_column}",
            f"          kept for {in_words(join.horizon)} after each impression: its time",
        ]
        lines += [
            f"          {name}: {feature.explanation}"
            for name, feature in settings.features.items()
            if isinstance(feature, TimeToClick)
        ]
    for keyed in features_by_key(settings.features):
        read = [kind for kind in ("impressions", "clicks") if keyed.reads(kind)]
        lines += [
            "",
            f"by        {', '.join(keyed.by)}: each value{' of them together' if len(keyed.by) > 1 else ''} on its own",
            f"          changed by {' and '.join(read)}; removed when untouched for {in_words(keyed.horizon)}",
        ]
        lines += [f"          {name}: {settings.features[name].explanation}" for name in keyed.names]
    number = len(settings.features)
    lines += [
        "",
        f"out       each click with {number} feature{'s' * (number != 1)}; what is not known is missing, never 0.",
    ]
    return "\n".join(lines)
