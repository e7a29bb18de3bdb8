"""One alert for one wave: by entity, share and quiet; the same however often and with whatever break it is gathered."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adclick.stream.alerts.alert import Alert
from adclick.stream.alerts.grouping import Alerts
from adclick.stream.clicks import Click, Evidence, ScoredClick
from adclick.stream.settings import AlertsSettings
from adclick.stream.state.store import MemoryState

SECOND = 1_000_000
SETTINGS = AlertsSettings(
    entities=(("publisher",), ("ip", "device")), minimum_clicks=3, minimum_share=0.5, quiet="60s", cost="cost"
)


def click(number: int, seconds: float, *, fraud: float = 0.9, late: bool = False, **fields: str | float) -> ScoredClick:
    return ScoredClick(Click(f"c{number}", int(seconds * SECOND), fields, {}, late), fraud, 1, fraud >= 0.5)


def gathered(clicks: Iterable[ScoredClick], alerts: Alerts | None = None) -> list[Alert]:
    alerts = alerts or Alerts(SETTINGS, MemoryState())
    return [alert for one in clicks for alert in alerts.take(one)]


def test_ten_thousand_clicks_of_a_wave_are_few_messages() -> None:
    wave = [click(n, n / 1000, publisher="p1", cost=0.5) for n in range(10_000)]
    found = gathered([*wave, click(-1, 1000, publisher="p2", fraud=0.0)])
    assert len({alert.id for alert in found}) == 1 and len(found) < 20
    assert [alert.revision for alert in found] == list(range(1, len(found) + 1))
    assert (found[0].clicks, found[0].state, found[0].first_click, found[0].last_click) == (3, "open", "c0", "c2")
    last = found[-1]
    assert (last.clicks, last.money, last.state, last.last_click) == (10_000, 5000.0, "closed", "c9999")
    assert last.mean_probability == pytest.approx(0.9) and last.max_probability == 0.9
    assert last.title == "Suspicious clicks of publisher p1: 10,000 of 10,000, 5,000.00 at stake"


def test_a_large_publisher_with_a_few_by_chance_raises_none() -> None:
    clicks = [click(n, n, publisher="big", fraud=0.9 if n % 10 == 0 else 0.0) for n in range(500)]
    assert gathered(clicks) == []


def test_the_widest_entity_takes_the_wave() -> None:
    farm = [click(n, n, publisher=f"p{n}", ip="i", device="d") for n in range(5)]
    (alert,) = gathered(farm)
    assert alert.entity == {"ip": "i", "device": "d"}
    publisher = [click(n, n, publisher="p", ip=f"i{n}", device="d") for n in range(5)]
    (alert,) = gathered(publisher)
    assert alert.entity == {"publisher": "p"}
    both = [click(n, n, publisher="p", ip="i", device="d") for n in range(5)]
    (alert,) = gathered(both)
    assert alert.entity == {"publisher": "p"}


def test_after_the_quiet_it_is_another_wave() -> None:
    found = gathered(
        [
            *(click(n, n, publisher="p") for n in range(3)),
            click(8, 62, publisher="other", fraud=0.0),
            click(9, 62.5, publisher="other", fraud=0.0),
            *(click(n, 100 + n, publisher="p") for n in range(10, 13)),
        ]
    )
    assert [(alert.state, alert.revision) for alert in found] == [("open", 1), ("closed", 2), ("open", 1)]
    assert found[0].id == found[1].id != found[2].id


def test_a_long_wave_is_told_again_while_it_goes_on() -> None:
    found = gathered(
        [
            *(click(n, 0.1 * n, publisher="p") for n in range(100)),
            *(click(200 + n, 10 + 30 * n, publisher="p") for n in range(20)),
        ]
    )
    times = [alert.last_time / SECOND for alert in found]
    assert all(later - earlier <= 90 for earlier, later in itertools.pairwise(times))


def test_without_entities_each_click_is_an_alert_and_evidence_is_what_the_model_says() -> None:
    explain = lambda one: (Evidence("ip", one.fields["ip"], 1.5),)  # noqa: E731
    alerts = Alerts(AlertsSettings(), MemoryState(), explain)
    (alert,) = gathered([click(1, 1, ip="a"), click(2, 2, ip="b", fraud=0.1)], alerts)
    assert (alert.entity, alert.state, alert.money) == ({"click_id": "c1"}, "closed", None)
    assert alert.document()["evidence"] == [{"column": "ip", "value": "a", "contribution": 1.5}]


def test_a_click_without_the_column_or_a_cost_is_no_fault() -> None:
    assert gathered([click(n, n) for n in range(5)]) == []
    (alert,) = gathered([click(n, n, publisher="p", cost="free" if n == 0 else 1.0) for n in range(3)])
    assert alert.money == 2.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.sampled_from("ab"), st.sampled_from("xy"), st.booleans(), st.booleans()),
        max_size=60,
    ),
    st.sets(st.integers(0, 60)),
)
def test_breaks_and_repeats_change_nothing(rows: list[tuple[int, str, str, bool, bool]], breaks: set[int]) -> None:
    clicks, now = [], 0.0
    for number, (wait, publisher, ip, is_fraud, is_late) in enumerate(rows):
        now += wait
        moment = now - 100 if is_late else now
        clicks.append(
            click(number, moment, fraud=0.9 if is_fraud else 0.1, late=is_late, publisher=publisher, ip=ip, device="d")
        )
    expected = gathered(clicks)
    store = MemoryState()
    alerts, found = Alerts(SETTINGS, store), []
    for number, one in enumerate(clicks):
        if number in breaks:
            # What was taken since the commit is undone, and taken again by another process.
            alerts.take(one)
            store.discard()
            alerts = Alerts(SETTINGS, store)
        found += alerts.take(one)
        alerts.put()
        store.commit(b"")
    assert found == expected
