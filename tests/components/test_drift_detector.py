"""Drift: how far distributions moved, held against known distances."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from adclick.components.drift_detector.distances import FeatureDrift, jensen_shannon, l_infinity, measure_drift
from adclick.schema.curated import DRIFT_STOPS_RUN


def statistics(**columns: list[object]) -> statistics_pb2.DatasetFeatureStatistics:
    return tfdv.generate_statistics_from_dataframe(pd.DataFrame(columns)).datasets[0]


def schema(stops: bool = False) -> schema_pb2.Schema:
    made = schema_pb2.Schema()
    device = made.feature.add(name="device", type=schema_pb2.BYTES)
    device.drift_comparator.infinity_norm.threshold = 0.3
    if stops:
        device.annotation.tag.append(DRIFT_STOPS_RUN)
    made.feature.add(name="price", type=schema_pb2.FLOAT).drift_comparator.jensen_shannon_divergence.threshold = 0.2
    made.feature.add(name="ad", type=schema_pb2.BYTES)
    return made


def drift(
    now: list[statistics_pb2.DatasetFeatureStatistics],
    before: list[statistics_pb2.DatasetFeatureStatistics],
    **options: bool,
) -> dict[str, FeatureDrift]:
    return {found.feature: found for found in measure_drift(now, before, schema(**options), {"device", "price", "ad"})}


@cache
def month(phones: int, mean: float, rows: int = 1_000, seed: int = 1) -> statistics_pb2.DatasetFeatureStatistics:
    price = np.random.default_rng(seed).normal(mean, 1.0, rows)
    return statistics(
        device=["phone"] * phones + ["desktop"] * (rows - phones),
        price=price.tolist(),
        ad=[f"ad{index % 50}" for index in range(rows)],
    )


def test_the_share_of_one_value_is_measured_over_all_parts() -> None:
    found = drift([month(900, 0.0)], [month(200, 0.0), month(800, 0.0, rows=3_000)])
    assert found["device"].distance == pytest.approx(900 / 1_000 - 1_000 / 4_000)
    assert found["device"].beyond and found["device"].action == "report"
    assert found["device"].describe() == "device: one value's share moved by 0.650, more than 0.3"
    assert found["ad"].distance == pytest.approx(0, abs=1e-9) and found["ad"].threshold is None


def test_quantities_are_compared_by_their_distribution() -> None:
    same = drift([month(500, 0.0)], [month(500, 0.0, seed=2), month(500, 0.0, seed=3)])["price"]
    assert same.measure == "jensen_shannon" and same.distance < 0.02 and not same.beyond
    moved = drift([month(500, 1.0)], [month(500, 0.0, rows=2_000, seed=2)])["price"]
    # Of two normal distributions one deviation apart, by numerical integration: 0.1676 bits.
    assert moved.distance == pytest.approx(0.1676, abs=0.04)
    assert drift([month(500, 3.0)], [month(500, 0.0)])["price"].beyond


def test_one_outlier_hides_nothing() -> None:
    before = statistics(price=[*np.linspace(0, 1, 999), 1e9])
    now = statistics(price=[*np.linspace(2, 3, 999), 1e9])
    (found,) = measure_drift([now], [before], schema(), {"price"})
    assert found.distance > 0.7


def test_missing_values_count_as_a_value() -> None:
    found = drift(
        [statistics(device=["phone"] * 50 + [None] * 50, price=[1.0] * 50 + [None] * 50)],
        [statistics(device=["phone"] * 100, price=[1.0] * 100)],
    )
    assert found["device"].distance == pytest.approx(0.5)
    assert found["price"].distance == pytest.approx(jensen_shannon(np.array([0.5, 0.5]), np.array([1.0, 0.0])))


def test_the_schema_says_what_stops_a_run() -> None:
    assert drift([month(900, 0.0)], [month(200, 0.0)], stops=True)["device"].action == "stop"


def test_distances_at_their_ends() -> None:
    assert l_infinity({"a": 1.0}, {"b": 1.0}) == 1.0 and l_infinity({}, {}) == 0.0
    one, other = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert jensen_shannon(one, other) == 1.0 and jensen_shannon(one, one) == 0.0
