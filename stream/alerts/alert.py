"""What an alert says, and as what it is written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from adclick.stream.clicks import Evidence
from adclick.stream.events import iso_time, microseconds_since_1970

State = Literal["open", "closed"]


@dataclass(frozen=True)
class Alert:
    """Suspicious clicks of one entity, until now.

    Attributes:
        id: Names the wave; each of its revisions has it.
        revision: Counts from 1; with the id it names this text of it.
        state: `closed` once the wave is over.
        entity: The columns that the clicks share and their values.
        first_time: Of its suspicious clicks, in microseconds since 1970, UTC.
        last_time: The same of the last.
        first_click: The first one's id.
        last_click: The last one's.
        clicks: How many suspicious ones there were.
        all_clicks: How many of the entity since the first, the others included.
        money: The sum of the suspicious clicks' costs; None where no cost is declared.
        mean_probability: Of the suspicious clicks.
        max_probability: The same.
        model_version: The version that judged the last of them.
        evidence: What spoke for fraud in the click that opened it.
    """

    id: str
    revision: int
    state: State
    entity: Mapping[str, str]
    first_time: int
    last_time: int
    first_click: str
    last_click: str
    clicks: int
    all_clicks: int
    money: float | None
    mean_probability: float
    max_probability: float
    model_version: int
    evidence: tuple[Evidence, ...] = ()

    @property
    def idempotency_key(self) -> str:
        """Names one revision: a receiver that has seen it need do nothing."""
        return f"{self.id}-{self.revision}"

    @property
    def title(self) -> str:
        """A line for people."""
        who = ", ".join(f"{column} {value}" for column, value in self.entity.items())
        money = "" if self.money is None else f", {self.money:,.2f} at stake"
        return f"Suspicious clicks of {who}: {self.clicks:,} of {self.all_clicks:,}{money}"

    def document(self) -> dict[str, Any]:
        """It as JSON has it."""
        return {
            "id": self.id,
            "revision": self.revision,
            "state": self.state,
            "title": self.title,
            "entity": dict(self.entity),
            "first_time": iso_time(self.first_time),
            "last_time": iso_time(self.last_time),
            "first_click": self.first_click,
            "last_click": self.last_click,
            "clicks": self.clicks,
            "all_clicks": self.all_clicks,
            "money": self.money,
            "mean_probability": self.mean_probability,
            "max_probability": self.max_probability,
            "model_version": self.model_version,
            "evidence": [
                {"column": one.column, "value": one.value, "contribution": one.contribution} for one in self.evidence
            ],
        }


def alert_bytes(alert: Alert) -> bytes:
    """An alert as JSON."""
    import orjson

    return orjson.dumps(alert.document())


def read_alert(payload: bytes) -> Alert:
    """An alert from what `alert_bytes` wrote.

    Raises:
        ValueError: It is something else.
    """
    import orjson

    document = orjson.loads(payload)
    try:
        evidence = tuple(Evidence(one["column"], one["value"], one["contribution"]) for one in document.pop("evidence"))
        del document["title"]
        document |= {name: microseconds_since_1970(document[name]) for name in ("first_time", "last_time")}
        return Alert(**document, evidence=evidence)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no alert: {error}") from None


def alert_id(entity: Mapping[str, str], first_click: str) -> str:
    """The same for the same wave, whoever computes it and however often."""
    import orjson

    return hashlib.sha256(orjson.dumps([list(entity.items()), first_click])).hexdigest()[:32]
