"""The impressions: who saw which ad where and when, and which of their values the log has lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adclick.pipeline.sample_data.population import DEVICES, POSITIONS, SITE_CATEGORIES, SYSTEMS, SamplePopulation

_IntArray = NDArray[np.int64]
_FloatArray = NDArray[np.float64]

_SECONDS_PER_DAY = 86_400
_HOUR_WEIGHTS = (14, 9, 6, 5, 5, 8, 16, 28, 38, 42, 44, 46, 50, 48, 46, 46, 48, 52, 58, 64, 68, 64, 48, 28)
_WEEKDAY_WEIGHTS = (1.0, 1.02, 1.03, 1.02, 1.0, 0.86, 0.9)
_FAVOURED_POSITION = 0.6
#: New ads are pushed: so much more of the traffic in so many first days.
_LAUNCH_BOOST, _LAUNCH_DAYS = 3.0, 10


@dataclass(frozen=True)
class SampleTraffic:
    """Impressions in order of time; every array has shape (rows,), -1 stands for a value that the log lacks.

    Attributes:
        month: Index of the month.
        seconds: Time of the impression in seconds since 1970-01-01 UTC.
        user, site, ad, creative: Indices into the population; `creative` is what the image column names.
        device, system, country, site_category, position: Codes into the population's names.
        width, height: Indices into `images.SLOTS` for each side of the slot.
    """

    month: _IntArray
    seconds: _IntArray
    user: _IntArray
    site: _IntArray
    ad: _IntArray
    creative: _IntArray
    device: _IntArray
    system: _IntArray
    country: _IntArray
    site_category: _IntArray
    position: _IntArray
    width: _IntArray
    height: _IntArray

    @property
    def hour(self) -> _IntArray:
        return np.asarray(self.seconds // 3600 % 24)

    @property
    def weekday(self) -> _IntArray:
        """0 is Monday."""
        # 1970-01-01 was a Thursday.
        return np.asarray((self.seconds // _SECONDS_PER_DAY + 3) % 7)


def _draw_times(month: np.datetime64, rows: int, random: np.random.Generator) -> _IntArray:
    first = month.astype("datetime64[D]")
    days = np.arange(first, (month + 1).astype("datetime64[D]")).astype(np.int64)
    weights = np.array(_WEEKDAY_WEIGHTS)[(days + 3) % 7]
    day = random.choice(days, rows, p=weights / weights.sum())
    hours = np.array(_HOUR_WEIGHTS, dtype=np.float64)
    hour = random.choice(24, rows, p=hours / hours.sum())
    return np.sort(day * _SECONDS_PER_DAY + hour * 3600 + random.integers(0, 3600, rows))


def _draw_ads(population: SamplePopulation, day: _IntArray, random: np.random.Generator) -> _IntArray:
    ads = population.ads
    uniform = random.random(len(day))
    chosen = np.empty(len(day), dtype=np.int64)
    # Days ascend: each is one slice.
    starts = np.flatnonzero(np.concatenate([[True], day[1:] != day[:-1]]))
    for start, end in zip(starts, [*starts[1:], len(day)], strict=True):
        age = day[start] - ads.first_day
        running = (age >= 0) & (day[start] < ads.end_day)
        launched = (ads.first_day >= 0) & (age < _LAUNCH_DAYS)
        share = np.cumsum(ads.weight * running * np.where(launched, _LAUNCH_BOOST, 1.0))
        chosen[start:end] = np.searchsorted(share, uniform[start:end] * share[-1], side="right")
    return chosen


def draw_traffic(
    population: SamplePopulation, months: Sequence[np.datetime64], rows: int, random: np.random.Generator
) -> SampleTraffic:
    """Draws impressions, `rows` in all, spread evenly over the months; no value is missing yet."""
    counts = [rows // len(months) + (index < rows % len(months)) for index in range(len(months))]
    month = np.repeat(np.arange(len(months)), counts)
    seconds = np.concatenate([_draw_times(m, c, random) for m, c in zip(months, counts, strict=True)])
    user = np.searchsorted(np.cumsum(population.users.share), random.random(rows))
    user = np.minimum(user, len(population.users.share) - 1)
    site = np.empty(rows, dtype=np.int64)
    newcomer = population.sites.category == SITE_CATEGORIES.index("podcasts")
    for index, count in enumerate(counts):
        share = np.cumsum(population.sites.share * (~newcomer if index == 0 else True))
        site[month == index] = np.searchsorted(share, random.random(count) * share[-1], side="right")
    first = int(months[0].astype("datetime64[D]").astype(np.int64))
    day = seconds // _SECONDS_PER_DAY - first
    ad = _draw_ads(population, day, random)
    ads = population.ads
    favoured = random.random(rows) < _FAVOURED_POSITION
    return SampleTraffic(
        month=month,
        seconds=seconds,
        user=user,
        site=site,
        ad=ad,
        creative=np.where(day >= ads.change_day[ad], ads.later_creative[ad], ads.creative[ad]),
        device=population.users.device[user],
        system=population.users.system[user],
        country=population.users.country[user],
        site_category=population.sites.category[site],
        position=np.where(favoured, population.sites.position[site], random.integers(0, len(POSITIONS), rows)),
        width=ads.slot[ad],
        height=ads.slot[ad],
    )


def lose_values(traffic: SampleTraffic, random: np.random.Generator) -> SampleTraffic:
    """Removes values as real logs do.

    Site category, image and slot size are lost at random; the user where a system withholds it, and the country where
    desktops stand behind a proxy, are not.
    """
    rows = len(traffic.seconds)
    withheld = np.isin(traffic.system, [SYSTEMS.index("ios"), SYSTEMS.index("macos")])
    proxied = traffic.device == DEVICES.index("desktop")
    share: dict[str, float | _FloatArray] = {
        "user": np.where(withheld, 0.08, 0.01),
        "country": np.where(proxied, 0.03, 0.005),
        "system": 0.01,
        "site_category": 0.01,
        "creative": 0.005,
        "width": 0.01,
        "height": 0.01,
    }
    return dataclasses.replace(
        traffic,
        **{name: np.where(random.random(rows) < lost, -1, getattr(traffic, name)) for name, lost in share.items()},
    )
