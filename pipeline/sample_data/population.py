"""Who and what takes part: users, sites, ads and their creatives, with the names that stand in the drops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adclick.pipeline.sample_data.images import Looks, draw_looks

_IntArray = NDArray[np.int64]
_FloatArray = NDArray[np.float64]

COUNTRIES = ("US", "GB", "DE", "FR", "BR", "IN", "JP", "MX")
_COUNTRY_SHARES = (0.30, 0.13, 0.11, 0.10, 0.11, 0.11, 0.08, 0.06)
DEVICES = ("phone", "tablet", "desktop")
_DEVICE_SHARES = (0.56, 0.08, 0.36)
SYSTEMS = ("android", "ios", "windows", "macos")
_SYSTEM_SHARES = ((0.60, 0.40, 0.0, 0.0), (0.45, 0.55, 0.0, 0.0), (0.0, 0.0, 0.72, 0.28))
#: The last category appears in the second month only.
SITE_CATEGORIES = ("news", "sports", "video", "games", "shopping", "weather", "social", "podcasts")
_SITE_CATEGORY_SHARES = (0.22, 0.14, 0.14, 0.12, 0.12, 0.08, 0.13, 0.05)
AD_CATEGORIES = ("travel", "fashion", "finance", "cars", "games", "food", "electronics", "insurance")
POSITIONS = ("top", "middle", "bottom", "sidebar")

_NEW_ADS_PER_DAY = 0.01
_MEAN_LIFE_DAYS = 100.0
_CHANGING_ADS = 0.08


@dataclass(frozen=True)
class Users:
    """Users, the most active first: shares of the traffic and codes into `COUNTRIES`, `DEVICES`, `SYSTEMS`."""

    share: _FloatArray
    country: _IntArray
    device: _IntArray
    system: _IntArray


@dataclass(frozen=True)
class Sites:
    """Sites, the largest first: shares of the traffic, codes into `SITE_CATEGORIES` and preferred ad position."""

    share: _FloatArray
    category: _IntArray
    position: _IntArray


@dataclass(frozen=True)
class Ads:
    """Ads with their hierarchy and life.

    Attributes:
        weight: Demand for the ad while it runs, relative to the others.
        campaign: The campaign of each ad.
        advertiser: The advertiser of each ad.
        category: Code into `AD_CATEGORIES`.
        slot: Index into `images.SLOTS`.
        creative: The creative shown before `change_day`.
        later_creative: The creative shown from `change_day` on.
        change_day: Day, counted from the first of the first month, on which the image changes.
        first_day: First day of the ad's life; negative for ads that ran before.
        end_day: The day after its last.
    """

    weight: _FloatArray
    campaign: _IntArray
    advertiser: _IntArray
    category: _IntArray
    slot: _IntArray
    creative: _IntArray
    later_creative: _IntArray
    change_day: _IntArray
    first_day: _IntArray
    end_day: _IntArray


@dataclass(frozen=True)
class SamplePopulation:
    """All of it; `campaigns` and `advertisers` count their ids, `creative_category` is each creative's ad category."""

    users: Users
    sites: Sites
    ads: Ads
    looks: Looks
    creative_category: _IntArray
    campaigns: int
    advertisers: int


def _power_law(size: int, exponent: float, offset: float) -> _FloatArray:
    weight = (np.arange(1, size + 1) + offset) ** -exponent
    return np.asarray(weight / weight.sum())


def _draw_users(rows: int, random: np.random.Generator) -> Users:
    size = max(50, rows // 4)
    device = random.choice(len(DEVICES), size, p=_DEVICE_SHARES)
    system = np.zeros(size, dtype=np.int64)
    for code, shares in enumerate(_SYSTEM_SHARES):
        chosen = np.flatnonzero(device == code)
        system[chosen] = random.choice(len(SYSTEMS), len(chosen), p=shares)
    return Users(
        share=_power_law(size, 1.2, size / 200),
        country=random.choice(len(COUNTRIES), size, p=_COUNTRY_SHARES),
        device=device,
        system=system,
    )


def _draw_sites(rows: int, random: np.random.Generator) -> Sites:
    size = max(30, round(rows**0.5))
    category = random.choice(len(SITE_CATEGORIES), size, p=_SITE_CATEGORY_SHARES)
    # Every category exists however few the sites; the newcomer is a site of middling size.
    newcomer = len(SITE_CATEGORIES) - 1
    category[2 : 2 + newcomer] = random.permutation(newcomer)
    category[2 + newcomer] = newcomer
    return Sites(
        share=_power_law(size, 1.15, 3),
        category=category,
        position=random.choice(len(POSITIONS), size, p=(0.3, 0.3, 0.2, 0.2)),
    )


def _changed_creatives(
    creative: _IntArray, category: _IntArray, slot: _IntArray, random: np.random.Generator
) -> _IntArray:
    later = creative.copy()
    for ad in np.flatnonzero(random.random(len(creative)) < _CHANGING_ADS):
        own = creative[ad]
        others = np.flatnonzero((category == category[own]) & (slot == slot[own]))
        others = others[others != own]
        if len(others):
            later[ad] = random.choice(others)
    return later


def draw_population(rows: int, creatives: int, days: int, random: np.random.Generator) -> SamplePopulation:
    """Draws the ids and what stays constant about them.

    Args:
        rows: Number of impressions; sets how many users and sites there are.
        creatives: Number of images; there are half as many ads again.
        days: Length of the whole period.
        random: Source of randomness.
    """
    users, sites = _draw_users(rows, random), _draw_sites(rows, random)
    looks = draw_looks(creatives, random)
    campaigns, advertisers = max(8, creatives // 4), max(8, creatives // 16)
    # Every ad category has an advertiser.
    advertiser_category = random.permutation(np.arange(advertisers) % len(AD_CATEGORIES))
    campaign_advertiser = random.permutation(np.arange(campaigns) % advertisers)
    creative_campaign = random.integers(0, campaigns, creatives)
    creative_category = advertiser_category[campaign_advertiser[creative_campaign]]

    size = creatives + max(1, creatives // 2)
    creative = np.concatenate([np.arange(creatives), random.integers(0, creatives, size - creatives)])
    creative = random.permutation(creative)
    campaign = creative_campaign[creative]
    running_share = 1 / (1 + _NEW_ADS_PER_DAY * days)
    first_day = np.where(random.random(size) < running_share, -1, random.integers(0, days, size))
    life = np.maximum(1, np.ceil(random.exponential(_MEAN_LIFE_DAYS, size))).astype(np.int64)
    # The first ad never ends: there is always something to show.
    first_day[0], life[0] = -1, days + 2
    ads = Ads(
        weight=random.permutation(_power_law(size, 1.15, size / 25)),
        campaign=campaign,
        advertiser=campaign_advertiser[campaign],
        category=creative_category[creative],
        slot=looks.slot[creative],
        creative=creative,
        later_creative=_changed_creatives(creative, creative_category, looks.slot, random),
        change_day=random.integers(0, days, size),
        first_day=first_day,
        end_day=first_day + life,
    )
    return SamplePopulation(users, sites, ads, looks, creative_category, campaigns, advertisers)
