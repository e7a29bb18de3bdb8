"""One alert for one wave: suspicious clicks are gathered by entity until it is quiet.

By the events' time and in their order alone, so that the same clicks give the same alerts, however often they are read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from adclick.schema.times import microseconds_of
from adclick.stream.alerts.alert import Alert, alert_id
from adclick.stream.clicks import Click, Evidence, ScoredClick
from adclick.stream.settings import AlertsSettings
from adclick.stream.state.store import StateStore

#: Keys of the store that are an entity's; those of features begin with other bytes.
_PREFIX = b"\xffalert\x00"
_SCAN = 1000

Explain = Callable[[Click], tuple[Evidence, ...]]


class _Wave(msgspec.Struct):
    """The suspicious clicks of an entity since it was quiet."""

    entity: list[tuple[str, str]]
    first_time: int
    last_time: int
    first_click: str
    last_click: str
    clicks: int = 0
    all_clicks: int = 0
    money: float = 0.0
    probability_sum: float = 0.0
    max_probability: float = 0.0
    model_version: int = 0
    #: 0 until an alert is open.
    revision: int = 0
    evidence: list[tuple[str, str | float | None, float]] = []
    #: The newest time of all when its last suspicious click came, and which one it was among all entities'.
    active: int = 0
    turn: int = 0
    #: When the last revision went out, and with how many clicks.
    told_time: int = 0
    told_clicks: int = 0

    def alert(self, *, has_cost: bool, is_closed: bool) -> Alert:
        entity = dict(self.entity)
        return Alert(
            alert_id(entity, self.first_click),
            self.revision,
            "closed" if is_closed else "open",
            entity,
            self.first_time,
            self.last_time,
            self.first_click,
            self.last_click,
            self.clicks,
            self.all_clicks,
            self.money if has_cost else None,
            self.probability_sum / self.clicks,
            self.max_probability,
            self.model_version,
            tuple(Evidence(*one) for one in self.evidence),
        )


_Key = tuple[int, tuple[str, ...]]


class Alerts:
    """Gathers judged clicks; the waves that go on are kept in a store.

    An alert goes out when it opens, when its clicks have doubled or it has gone on for `quiet` since it last did, and
    when it closes.

    Args:
        settings: When an alert is raised.
        store: Where waves are kept; the caller commits it.
        explain: What speaks for fraud in a click.
    """

    def __init__(self, settings: AlertsSettings, store: StateStore, explain: Explain = lambda _: ()) -> None:
        self._settings = settings
        self._store = store
        self._explain = explain
        self._quiet = microseconds_of(settings.quiet)
        self._waves: OrderedDict[_Key, _Wave] = OrderedDict()
        self._changed: set[_Key] = set()
        self._newest = 0
        self._turn = 0
        self._load()

    @property
    def open(self) -> int:
        """How many alerts are open."""
        return sum(wave.revision > 0 for wave in self._waves.values())

    def take(self, scored: ScoredClick) -> list[Alert]:
        """Takes a judged click in.

        Returns:
            Alerts that opened, grew or closed by it.
        """
        alerts = []
        click = scored.click
        if not click.is_late:
            alerts += self._close_until(click.time)
        if not self._settings.entities:
            return [*alerts, *self._alone(scored)]
        keys = [
            (number, tuple(str(value) for value in values))
            for number, columns in enumerate(self._settings.entities)
            if None not in (values := [click.value(column) for column in columns])
        ]
        for key in keys:
            wave = self._waves.get(key)
            if wave is not None:
                wave.all_clicks += 1
                self._changed.add(key)
        if scored.is_alerting:
            alerts += self._suspicious(scored, keys)
        return alerts

    def put(self) -> None:
        """Puts what has changed into the store, for its next commit."""
        for key in self._changed:
            wave = self._waves.get(key)
            name = _PREFIX + msgspec.msgpack.encode(key)
            if wave is None:
                self._store.delete(name)
            else:
                self._store.put(name, msgspec.msgpack.encode(wave))
        self._changed.clear()

    def rollback(self) -> None:
        """Goes back to what the store has committed."""
        self._load()

    def _load(self) -> None:
        self._waves.clear()
        self._changed.clear()
        found: list[tuple[_Key, _Wave]] = []
        after = _PREFIX
        while some := self._store.scan(after, _SCAN):
            for name, value in some:
                if name.startswith(_PREFIX):
                    number, values = msgspec.msgpack.decode(name[len(_PREFIX) :], type=tuple[int, tuple[str, ...]])
                    found.append(((number, values), msgspec.msgpack.decode(value, type=_Wave)))
            after = some[-1][0]
        # In the order in which they would close.
        self._waves.update(sorted(found, key=lambda pair: pair[1].turn))
        self._newest = max((wave.active for wave in self._waves.values()), default=0)
        self._turn = max((wave.turn for wave in self._waves.values()), default=0)

    def _suspicious(self, scored: ScoredClick, keys: Sequence[_Key]) -> list[Alert]:
        for key in keys:
            wave = self._waves.get(key)
            if wave is not None and wave.revision:
                return self._grow(key, wave, scored)
        for key in keys:
            wave = self._waves.get(key)
            if wave is None:
                click = scored.click
                columns = self._settings.entities[key[0]]
                entity = list(zip(columns, key[1], strict=True))
                wave = self._waves[key] = _Wave(entity, click.time, click.time, click.id, click.id, all_clicks=1)
            self._count(key, wave, scored)
            if (
                wave.clicks >= self._settings.minimum_clicks
                and wave.clicks >= self._settings.minimum_share * wave.all_clicks
            ):
                wave.revision = 1
                wave.evidence = [(one.column, one.value, one.contribution) for one in self._explain(scored.click)]
                return [self._alert(wave)]
        return []

    def _grow(self, key: _Key, wave: _Wave, scored: ScoredClick) -> list[Alert]:
        self._count(key, wave, scored)
        if wave.clicks < 2 * wave.told_clicks and wave.last_time - wave.told_time < self._quiet:
            return []
        wave.revision += 1
        return [self._alert(wave)]

    def _count(self, key: _Key, wave: _Wave, scored: ScoredClick) -> None:
        click, probability = scored.click, scored.fraud_probability or 0.0
        wave.clicks += 1
        wave.probability_sum += probability
        wave.max_probability = max(wave.max_probability, probability)
        wave.model_version = scored.model_version
        wave.money += self._cost(click)
        if click.time >= wave.last_time:
            wave.last_time, wave.last_click = click.time, click.id
        if click.time < wave.first_time:
            wave.first_time = click.time
        self._turn += 1
        wave.turn, wave.active = self._turn, max(click.time, self._newest)
        self._waves.move_to_end(key)
        self._changed.add(key)

    def _cost(self, click: Click) -> float:
        value = click.value(self._settings.cost) if self._settings.cost else None
        return value if isinstance(value, float) else 0.0

    def _close_until(self, time: int) -> list[Alert]:
        """Ends the waves that have been quiet for long enough when it is `time`."""
        if time <= self._newest:
            return []
        self._newest = time
        alerts = []
        while self._waves:
            key = next(iter(self._waves))
            wave = self._waves[key]
            if time - wave.active <= self._quiet:
                break
            del self._waves[key]
            self._changed.add(key)
            if wave.revision:
                wave.revision += 1
                alerts.append(self._alert(wave, is_closed=True))
        return alerts

    def _alone(self, scored: ScoredClick) -> list[Alert]:
        """Where no entity is declared, each suspicious click is an alert, over when it begins."""
        if not scored.is_alerting:
            return []
        click = scored.click
        wave = _Wave([("click_id", click.id)], click.time, click.time, click.id, click.id, all_clicks=1, revision=1)
        key: _Key = (0, (click.id,))
        self._waves[key] = wave
        self._count(key, wave, scored)
        del self._waves[key]
        self._changed.discard(key)
        wave.evidence = [(one.column, one.value, one.contribution) for one in self._explain(click)]
        return [self._alert(wave, is_closed=True)]

    def _alert(self, wave: _Wave, *, is_closed: bool = False) -> Alert:
        wave.told_time, wave.told_clicks = wave.last_time, wave.clicks
        return wave.alert(has_cost=self._settings.cost is not None, is_closed=is_closed)
