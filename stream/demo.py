"""Sample traffic played as it comes, judged by the embedded execution, and held against the truth."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from adclick.stream.alerts.alert import Alert
from adclick.stream.alerts.grouping import Alerts
from adclick.stream.clicks import Click, ScoredClick
from adclick.stream.events import Event
from adclick.stream.features.operator import FeatureOperator
from adclick.stream.metrics import StreamMetrics
from adclick.stream.stages.judge import Judge

_DELAYS = 20_000
_TICK_SECONDS = 0.02


@dataclass
class Tally:
    """What has been judged so far, against the truth.

    Attributes:
        truth: By click id, what it was: an honest kind or a kind of fraud.
        frauds: Which kinds are fraud.
        events: How many were played.
        clicks: How many were judged.
        by_kind: Of each kind, how many clicks were judged.
        alerting: Of them, how many were suspicious.
        alerts: By id, the newest revision of each alert.
        delays: From playing to judgement, of the latest clicks, in seconds.
    """

    truth: Mapping[str, str]
    frauds: frozenset[str]
    events: int = 0
    clicks: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    alerting: Counter[str] = field(default_factory=Counter)
    alerts: dict[str, Alert] = field(default_factory=dict)
    delays: deque[float] = field(default_factory=lambda: deque(maxlen=_DELAYS))

    def take(self, scored: Iterable[ScoredClick], alerts: Iterable[Alert]) -> None:
        """Counts judged clicks and alerts."""
        for one in scored:
            kind = self.truth.get(one.click.id, "unknown")
            self.clicks += 1
            self.by_kind[kind] += 1
            self.alerting[kind] += one.is_alerting
        self.alerts |= {alert.id: alert for alert in alerts}

    @property
    def precision(self) -> float:
        """The share of fraud among suspicious clicks; NaN without one."""
        found = sum(self.alerting.values())
        return sum(self.alerting[kind] for kind in self.frauds) / found if found else float("nan")

    @property
    def recall(self) -> float:
        """The share of fraudulent clicks that were suspicious; NaN without one."""
        total = sum(self.by_kind[kind] for kind in self.frauds)
        return sum(self.alerting[kind] for kind in self.frauds) / total if total else float("nan")

    @property
    def false_positive_rate(self) -> float:
        """The share of honest clicks that were suspicious; NaN without one."""
        honest = [kind for kind in self.by_kind if kind not in self.frauds]
        total = sum(self.by_kind[kind] for kind in honest)
        return sum(self.alerting[kind] for kind in honest) / total if total else float("nan")

    def delay(self, percent: float) -> float:
        """A percentile of the delays in seconds; NaN without one."""
        return float(np.percentile(list(self.delays), percent)) if self.delays else float("nan")


class EmbeddedPlayer:
    """Plays events at a rate through features, model and alerts in this process.

    Args:
        operator: Computes features; has gone through what came before.
        judge: Judges clicks.
        alerts: Gathers them.
        tally: Is filled.
        metrics: Where it counts.
    """

    def __init__(
        self, operator: FeatureOperator, judge: Judge, alerts: Alerts, tally: Tally, metrics: StreamMetrics
    ) -> None:
        self._operator = operator
        self._judge = judge
        self._alerts = alerts
        self._tally = tally
        self._metrics = metrics

    def play(self, events: Sequence[Event], rate: float) -> Iterator[None]:
        """Plays events, in their order; yields after every few, for others to look."""
        begun = time.monotonic()
        for due in batches(len(events), rate):
            played = time.monotonic()
            clicks = []
            for event in events[due]:
                features = self._operator.process(event)
                if features is not None:
                    clicks.append(Click(event.id, event.time, event.fields, features))
            scored = self._judge.judge(clicks)
            alerts = [alert for one in scored for alert in self._alerts.take(one)]
            now = time.monotonic()
            # Each was due at its own moment; the first of them waited longest.
            for number, event in zip(range(due.start, due.stop), events[due], strict=True):
                if event.kind == "clicks":
                    self._tally.delays.append(now - min(played, begun + number / rate))
            self._tally.events = due.stop
            self._tally.take(scored, alerts)
            for alert in alerts:
                self._metrics.count_alert(alert.state)
            yield


def batches(count: int, rate: float) -> Iterator[slice]:
    """The events that are due, as time goes by: slices of `count` at `rate` a second."""
    begun = time.monotonic()
    done = 0
    while done < count:
        due = min(count, int((time.monotonic() - begun) * rate) + 1)
        if due > done:
            yield slice(done, due)
            done = due
        else:
            time.sleep(min(_TICK_SECONDS, 1 / rate))
