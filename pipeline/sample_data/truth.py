"""The true click probability: a sum of terms in logits, each a function of what a model may see.

A value that the log lacks has no effect, for nobody could know it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adclick.pipeline.sample_data.attainable import IdColumn, sigmoid
from adclick.pipeline.sample_data.population import AD_CATEGORIES, COUNTRIES, SYSTEMS, SamplePopulation
from adclick.pipeline.sample_data.traffic import SampleTraffic

_IntArray = NDArray[np.int64]
_FloatArray = NDArray[np.float64]

CLICK_RATE = 0.045
#: Month by month, relative to `CLICK_RATE`.
_DRIFT = (0.0, 0.015, -0.01, 0.01, -0.015, 0.01)
_POSITION = (0.70, 0.15, -0.75, -0.30)
_DEVICE = (0.12, 0.0, -0.18)
_SLOT = (0.15, 0.22, 0.38, -0.38, -0.15, -0.22)
_SITE_CATEGORY = (-0.36, 0.06, 0.26, 0.48, 0.32, -0.42, -0.10, 0.30)
_WEEKDAY = (0.0, 0.02, 0.03, 0.0, -0.02, 0.0, 0.0)
#: At weekends phones click more and desktops less, until the third month, when it is the other way round.
_WEEKEND, _WEEKEND_FLIPS = (0.08, 0.0, -0.12), 2
#: Each device has an hour of the day at which it clicks most.
_DEVICE_PEAK, _DEVICE_HOUR = (21.0, 19.0, 11.0), 0.18
#: A user's segment is a vector given by country and system; each ad category has a direction: their dot product counts.
_COUNTRY_ANGLE = (0, 90, 180, 270, 45, 225, 315, 135)
_SYSTEM_ANGLE = (30, 210, 120, 300)
_CATEGORY_ANGLE = (0, 135, 270, 45, 180, 315, 90, 225)
_COUNTRY_LENGTH, _SYSTEM_LENGTH = 0.44, 0.10
#: Out of working hours phones click more, and desktops less, on the first kind of ad; the reverse on the second.
_THIRD_ORDER = 0.12
_THIRD_DEVICE = (1.0, 0.0, -1.0)
_THIRD_CATEGORY = (1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0)
_WORKING_HOURS = range(8, 17)

#: Standard deviations of the effects of ids, in logits.
ID_DEVIATIONS = {"user": 0.40, "site": 0.35, "ad": 0.35, "campaign": 0.20, "advertiser": 0.20}


@dataclass(frozen=True)
class Truth:
    """The logit of every impression, in parts; each array has shape (rows,).

    Attributes:
        structure: All terms but those of ids and images.
        ids: The columns of ids, by name, in the order of `ID_DEVIATIONS`.
        id_effect: The sum of the effects of ids.
        image_effect: The effect of the image; zero where it is missing or cannot be decoded.
    """

    structure: _FloatArray
    ids: dict[str, IdColumn]
    id_effect: _FloatArray
    image_effect: _FloatArray

    @property
    def probability(self) -> _FloatArray:
        return sigmoid(self.structure + self.id_effect + self.image_effect)


def _of(table: Sequence[float], code: _IntArray) -> _FloatArray:
    """The effect of each code; zero for -1."""
    return np.append(np.asarray(table, dtype=np.float64), 0.0)[code]


def _directions(degrees: Sequence[float]) -> _FloatArray:
    angle = np.deg2rad(np.asarray(degrees, dtype=np.float64))
    return np.concatenate([np.stack([np.cos(angle), np.sin(angle)], axis=1), np.zeros((1, 2))])


def _segment_interest(traffic: SampleTraffic, category: _IntArray) -> _FloatArray:
    countries = _COUNTRY_LENGTH * _directions(_COUNTRY_ANGLE)
    systems = _SYSTEM_LENGTH * _directions(_SYSTEM_ANGLE)
    for vectors, codes, names in ((countries, traffic.country, COUNTRIES), (systems, traffic.system, SYSTEMS)):
        # Centred on the traffic, so that the term is all interaction.
        counts = np.bincount(codes[codes >= 0], minlength=len(names))
        vectors[:-1] -= (counts[:, None] * vectors[:-1]).sum(axis=0) / max(counts.sum(), 1)
    segment = countries[traffic.country] + systems[traffic.system]
    return np.asarray((segment * _directions(_CATEGORY_ANGLE)[category]).sum(axis=1))


def _structure(traffic: SampleTraffic, category: _IntArray) -> _FloatArray:
    hour, weekday = traffic.hour, traffic.weekday
    peak = np.array(_DEVICE_PEAK)[traffic.device]
    weekend = np.where(traffic.month < _WEEKEND_FLIPS, 1.0, -1.0) * _of(_WEEKEND, traffic.device)
    slot = np.where(traffic.height < 0, -1, traffic.width)
    daypart = np.where((hour >= _WORKING_HOURS.start) & (hour < _WORKING_HOURS.stop), -1.0, 1.0)
    third = _of(_THIRD_DEVICE, traffic.device) * np.array(_THIRD_CATEGORY)[category] * daypart
    drift = np.log1p(np.array(_DRIFT))[traffic.month % len(_DRIFT)]
    return np.asarray(
        drift
        + _of(_POSITION, traffic.position)
        + _of(_DEVICE, traffic.device)
        + _DEVICE_HOUR * np.cos((hour - peak) * (2 * np.pi / 24))
        + np.array(_WEEKDAY)[weekday]
        + np.where(weekday >= 5, weekend, 0.0)
        + _of(_SLOT, slot)
        + _of(_SITE_CATEGORY, traffic.site_category)
        + _segment_interest(traffic, category)
        + _THIRD_ORDER * third
    )


def _base(logit: _FloatArray) -> float:
    """The constant that brings the mean probability to `CLICK_RATE`."""
    base = float(np.log(CLICK_RATE / (1 - CLICK_RATE)))
    for _ in range(50):
        probability = sigmoid(logit + base)
        step = (CLICK_RATE - probability.mean()) / (probability * (1 - probability)).mean()
        base += float(step)
        if abs(step) < 1e-12:
            break
    return base


def make_truth(
    population: SamplePopulation, traffic: SampleTraffic, image_effect: _FloatArray, random: np.random.Generator
) -> Truth:
    """Gives every impression its logit.

    Args:
        population: The ids.
        traffic: The impressions, values lost included.
        image_effect: The effect of each creative's image as a model sees it, shape (creatives,).
        random: Source of the effects of ids.
    """
    ads = population.ads
    numbers = {
        "user": (traffic.user, len(population.users.share)),
        "site": (traffic.site, len(population.sites.share)),
        "ad": (traffic.ad, len(ads.weight)),
        "campaign": (ads.campaign[traffic.ad], population.campaigns),
        "advertiser": (ads.advertiser[traffic.ad], population.advertisers),
    }
    ids = {name: IdColumn(*numbers[name], deviation=deviation) for name, deviation in ID_DEVIATIONS.items()}
    id_effect = np.zeros(len(traffic.seconds))
    for column in ids.values():
        id_effect += _of(random.normal(0, column.deviation, column.size).tolist(), column.ids)
    shown = _of(image_effect.tolist(), traffic.creative)
    structure = _structure(traffic, ads.category[traffic.ad])
    return Truth(structure + _base(structure + id_effect + shown), ids, id_effect, shown)


def probability_without_image(
    truth: Truth,
    traffic: SampleTraffic,
    population: SamplePopulation,
    image_effect: _FloatArray,
    training: NDArray[np.bool_],
) -> _FloatArray:
    """The best prediction of a model that never sees an image, all other effects known, shape (rows,).

    An ad of the training impressions has shown its images' worth by its clicks: its id stands for their mean effect
    over those impressions. A new ad could show any image of its ad category: the truth is averaged over them.
    """
    ads = population.ads
    size = len(ads.weight)
    shown = np.bincount(traffic.ad[training], minlength=size)
    mean_effect = np.bincount(traffic.ad[training], truth.image_effect[training], size) / np.maximum(shown, 1)
    rest = truth.structure + truth.id_effect
    probability = sigmoid(rest + mean_effect[traffic.ad])
    new = shown[traffic.ad] == 0
    category = ads.category[traffic.ad]
    quantiles = (np.arange(64) + 0.5) / 64
    for code in range(len(AD_CATEGORIES)):
        rows = np.flatnonzero(new & (category == code))
        effects = image_effect[population.creative_category == code]
        if len(rows) and len(effects):
            spread = np.quantile(effects, quantiles)
            probability[rows] = np.mean([sigmoid(rest[rows] + effect) for effect in spread], axis=0)
    return probability
