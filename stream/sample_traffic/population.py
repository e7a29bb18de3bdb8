"""Who clicks where: users with their devices, addresses and hours; sites; ads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adclick.stream.sample_traffic.clicks import DAY, HOUR, SECOND, Floats, Ints

BROWSERS = (
    "chrome_android",
    "safari_ios",
    "chrome_desktop",
    "firefox_desktop",
    "webview_android",
    "edge_desktop",
    "bot",
)
COUNTRIES = ("DE", "FR", "IT", "ES", "PL", "NL", "US", "BR", "IN", "VN")
#: Hours that local time is ahead of UTC.
_AHEAD = np.array([1, 1, 1, 1, 1, 1, -5, -3, 5, 7])
#: How active people are by hour of their day.
_HOURS = np.array([2, 1, 1, 1, 1, 2, 4, 7, 9, 9, 9, 10, 11, 10, 9, 9, 10, 12, 14, 16, 17, 16, 11, 5], np.float64)
_OFFICE_HOURS = np.array([0, 0, 0, 0, 0, 0, 0, 1, 6, 10, 10, 9, 8, 9, 10, 10, 8, 4, 1, 0, 0, 0, 0, 0], np.float64)
BOT = BROWSERS.index("bot")
WEBVIEW = BROWSERS.index("webview_android")


@dataclass(frozen=True)
class TrafficPopulation:
    """Who there is.

    Attributes:
        ip: By user, the address at home or of the mobile network.
        browser: By user.
        country: By user.
        activity: By user, the share of all sessions.
        office: By user, the number of the office, -1 for none.
        office_ip: By office.
        site_share: By site, the share of visits.
        publisher: By site.
        ad_share: By ad, the share of impressions.
        advertiser: By ad.
        cost: By ad, of a click.
        start: The first moment, in microseconds.
        days: How many days there are.
    """

    ip: Ints
    browser: Ints
    country: Ints
    activity: Floats
    heavy: Ints
    office: Ints
    office_ip: Ints
    site_share: Floats
    publisher: Ints
    ad_share: Floats
    advertiser: Ints
    cost: Floats
    start: int
    days: int

    @property
    def users(self) -> int:
        """How many users there are; their devices have their numbers."""
        return len(self.ip)

    def times(self, rng: np.random.Generator, country: Ints, office: bool = False) -> Ints:
        """Moments at which people of the countries are active, in microseconds."""
        number = len(country)
        weights = _OFFICE_HOURS if office else _HOURS
        hour = rng.choice(24, number, p=weights / weights.sum()) - _AHEAD[country]
        day = rng.integers(0, self.days, number)
        if office:
            # No office on two days in seven.
            day = day - np.where(day % 7 >= 5, 2, 0)
        within = rng.integers(0, HOUR, number)
        time: Ints = self.start + day * DAY + hour % 24 * HOUR + within
        return time


def draw_population(rng: np.random.Generator, users: int, start: int, days: int) -> TrafficPopulation:
    """Draws who there is.

    Args:
        rng: Where chance comes from.
        users: How many users.
        start: The first moment, in microseconds since 1970.
        days: How many days.
    """
    country = rng.choice(len(COUNTRIES), users, p=_shares(len(COUNTRIES)))
    # Households of a few, and mobile networks that put hundreds behind one address.
    households = rng.integers(0, max(users // 2, 1), users)
    mobile = rng.random(users) < 0.15
    networks = rng.integers(0, max(users // 150, 1), users)
    ip = np.where(mobile, 0x64400000 + networks, 0x0B000000 + households * 37)
    offices = max(users // 400, 2)
    office = np.where(rng.random(users) < 0.12, rng.integers(0, offices, users), -1)
    activity = rng.lognormal(0, 1.0, users)
    heavy = np.flatnonzero(rng.random(users) < 0.004)
    activity[heavy] *= 25
    sites, ads = max(users // 40, 60), max(users // 30, 80)
    advertisers = max(ads // 6, 12)
    return TrafficPopulation(
        ip=ip,
        browser=rng.choice(6, users, p=[0.34, 0.24, 0.2, 0.06, 0.1, 0.06]),
        country=country,
        activity=activity / activity.sum(),
        heavy=heavy,
        office=office,
        office_ip=0x51000000 + np.arange(offices) * 101,
        site_share=_shares(sites),
        publisher=rng.integers(0, max(sites // 3, 20), sites),
        ad_share=_shares(ads),
        advertiser=rng.integers(0, advertisers, ads),
        cost=np.round(rng.lognormal(-1.2, 0.6, ads), 2) + 0.02,
        start=start,
        days=days,
    )


def human_delay(rng: np.random.Generator, number: int) -> Floats:
    """Seconds that people take from an impression to their click; a few are quick, some impressions are not logged."""
    delay: Floats = np.maximum(rng.lognormal(1.8, 0.9, number), 0.35)
    return np.where(rng.random(number) < 0.04, np.nan, delay)


def spread(rng: np.random.Generator, time: Ints, seconds: float) -> Ints:
    """Moments a little after others: exponential, of so many seconds in the mean."""
    later: Ints = time + (rng.exponential(seconds, len(time)) * SECOND).astype(np.int64)
    return later


def _shares(number: int) -> Floats:
    weights = 1 / np.arange(1, number + 1) ** 0.8
    shares: Floats = weights / weights.sum()
    return shares
