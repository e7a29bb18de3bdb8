"""Honest clicks, those that look like fraud among them."""

from __future__ import annotations

import numpy as np

from adclick.stream.sample_traffic.clicks import DAY, HOUR, Clicks, Ints, clicks_of
from adclick.stream.sample_traffic.population import BOT, TrafficPopulation, human_delay, spread


def _visits(
    rng: np.random.Generator, people: TrafficPopulation, user: Ints, kind: str, time: Ints, office: bool
) -> Clicks:
    number = len(user)
    return clicks_of(
        kind,
        time,
        ip=people.office_ip[people.office[user]] if office else people.ip[user],
        device=user,
        browser=people.browser[user],
        country=people.country[user],
        site=rng.choice(len(people.site_share), number, p=people.site_share),
        ad=rng.choice(len(people.ad_share), number, p=people.ad_share),
        delay=human_delay(rng, number),
    )


def users(rng: np.random.Generator, people: TrafficPopulation, number: int) -> list[Clicks]:
    """Users at home and on their way: sessions of one to a few clicks; heavy ones have very many."""
    drawn = rng.choice(people.users, number, p=people.activity)
    time = people.times(rng, people.country[drawn])
    # A third of the clicks follow another one of the same session.
    follows = np.flatnonzero(rng.random(number) < 0.33)
    leader = np.maximum(follows - 1, 0)
    drawn[follows] = drawn[leader]
    time[follows] = spread(rng, time[leader], 90)
    heavy = np.isin(drawn, people.heavy)
    return [
        _visits(rng, people, drawn[~heavy], "user", time[~heavy], office=False),
        _visits(rng, people, drawn[heavy], "heavy_user", time[heavy], office=False),
    ]


def offices(rng: np.random.Generator, people: TrafficPopulation, number: int) -> list[Clicks]:
    """Hundreds of people behind one address, in working hours."""
    staff = np.flatnonzero(people.office >= 0)
    drawn = rng.choice(staff, number)
    return [_visits(rng, people, drawn, "office", people.times(rng, people.country[drawn], office=True), office=True)]


def flash_sales(rng: np.random.Generator, people: TrafficPopulation, number: int) -> list[Clicks]:
    """An advertiser's sale: a crowd within two hours, on one ad, in a hurry."""
    sales = max(people.days // 30, 1)
    parts = []
    for _ in range(sales):
        size = number // sales
        drawn = rng.choice(people.users, size, p=people.activity)
        start = people.start + rng.integers(0, people.days) * DAY + rng.integers(8, 20) * HOUR
        time = start + (rng.beta(1.2, 3, size) * 2 * HOUR).astype(np.int64)
        part = _visits(rng, people, drawn, "flash_sale", time, office=False)
        part.ad[:] = rng.integers(0, len(people.ad_share))
        part.delay[:] *= 0.6
        parts.append(part)
    return parts


def crawlers(rng: np.random.Generator, people: TrafficPopulation, number: int) -> list[Clicks]:
    """Crawlers that say so by their browser, day and night, from few addresses; nobody pays for their clicks."""
    which = rng.integers(0, 4, number)
    time = people.start + rng.integers(0, people.days * DAY, number)
    return [
        clicks_of(
            "crawler",
            time,
            ip=0x42F90000 + which,
            device=10_000_000 + which,
            browser=BOT,
            country=6,
            site=rng.integers(0, len(people.site_share), number),
            ad=rng.choice(len(people.ad_share), number, p=people.ad_share),
            delay=np.where(rng.random(number) < 0.5, rng.uniform(0.2, 2, number), np.nan),
        )
    ]


def unclicked(rng: np.random.Generator, people: TrafficPopulation, number: int) -> Clicks:
    """Impressions that nobody clicked; their delay means nothing."""
    drawn = rng.choice(people.users, number, p=people.activity)
    return _visits(rng, people, drawn, "user", people.times(rng, people.country[drawn]), office=False)
