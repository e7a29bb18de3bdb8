"""Every kind of feature by its words in docs/reference/config.md.

From the list of all events each time: slow, plain, and apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from adclick.stream.events import Event

SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def seconds(length: str) -> int:
    return int(length[:-1]) * SECONDS[length[-1]]


def seconds_to_click(events: Sequence[Event], click: Event, window: str) -> float | None:
    """The time from the last impression of the click's impression id before it, if the window holds it."""
    wanted = click.fields.get("impression_id")
    times = [e.time for e in events if e.kind == "impressions" and e.id == wanted]
    if wanted is None or not times or click.time - times[-1] > seconds(window) * 1_000_000:
        return None
    return (click.time - times[-1]) / 1_000_000


def in_window(events: Sequence[Event], click: Event, declared: dict[str, Any]) -> list[Event]:
    """The events of the click's key, no older than the window's tiles: 60 of them, of a second at least."""
    length = seconds(declared["window"])
    step = max(Fraction(length, 60), Fraction(1))
    tiles = math.ceil(length / step)

    def tile(event: Event) -> int:
        return math.floor(Fraction(event.time, 1_000_000) / step)

    return [
        e
        for e in events
        if e.kind == declared.get("of", "clicks")
        and all(e.fields.get(column) == click.fields.get(column) for column in declared["by"])
        and tile(e) > tile(click) - tiles
    ]


def feature(events: Sequence[Event], declared: dict[str, Any], impression_window: str) -> float | None:
    """What a feature of the last event, a click, is; `events` are all until then, in order."""
    click = events[-1]

    def to_click(event: Event) -> float | None:
        return seconds_to_click(events[: events.index(event) + 1], event, impression_window)

    if declared["kind"] == "time_to_click":
        return to_click(click)
    if any(column not in click.fields for column in declared["by"]):
        return None
    found = in_window(events, click, declared)
    column = declared.get("column")
    match declared["kind"]:
        case "count":
            return len(found)
        case "distinct":
            values = {e.fields[column] for e in found if column in e.fields}
            return min(len(values), declared.get("max_distinct", 1_000))
        case "sum" | "mean":
            read = to_click if column == "seconds_to_click" else (lambda e: e.fields.get(column))
            numbers = [n for n in map(read, found) if n is not None]
            if not numbers:
                return None
            return sum(numbers) if declared["kind"] == "sum" else sum(numbers) / len(numbers)
        case "time_since_last":
            before = [
                e
                for e in events[:-1]
                if e.kind == declared.get("of", "clicks")
                and all(e.fields.get(name) == click.fields[name] for name in declared["by"])
            ]
            if not before or click.time - before[-1].time > seconds(declared["window"]) * 1_000_000:
                return None
            return (click.time - before[-1].time) / 1_000_000
        case "share_with_impression":
            return sum(to_click(e) is not None for e in found) / len(found)
        case "hour_entropy":
            hours = [e.time // 3_600_000_000 % 24 for e in found]
            if not hours:
                return None
            shares = [hours.count(hour) / len(hours) for hour in set(hours)]
            return -sum(share * math.log2(share) for share in shares)
    raise AssertionError(declared)
