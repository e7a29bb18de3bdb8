"""The Transform graph, analysed for real: what each role makes of each value."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adclick.models.features import transformed_name
from adclick.models.transform_graph import TransformGraph
from adclick.schema.feature_table import parse_feature_table
from adclick.schema.roles.inputs import missing_name, time_name
from tests.models.tiny_model import as_example, transform_of

FEATURES = parse_feature_table(
    {
        "clicked": {"role": "label"},
        "shown_at": {"role": "timestamp"},
        "ad": {"role": "categorical", "min_count": 2},
        "site": {"role": "categorical", "encoding": "hashed", "hash_buckets": 16},
        "topics": {"role": "multi_valued", "max_values": 2, "min_count": 1},
        "price": {"role": "numeric", "scaling": "log"},
        "height": {"role": "bucketised", "buckets": 4},
    }
)
SUNDAY_NOON = int(datetime(2026, 11, 1, 12, 30, tzinfo=UTC).timestamp())
ROWS = [
    {
        "clicked": [number % 2],
        "shown_at": [SUNDAY_NOON + number * 3600],
        "ad": [[b"often", b"often", b"twice", b"once"][number % 4 if number < 8 else 0]] if number != 9 else [],
        "site": [b"s%d" % number],
        "topics": [b"a", b"b", b"c"][: number % 4],
        "price": [[10.0, -10.0, 0.0][number % 3]] if number != 5 else [],
        "height": [float(number)] if number != 6 else [],
    }
    for number in range(12)
]


@pytest.fixture(scope="module")
def transformed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Any]:
    folder = tmp_path_factory.mktemp("transform")
    layout = transform_of(ROWS, FEATURES, folder).columns.layout
    output = tft.TFTransformOutput(str(folder))
    parsed = tf.io.parse_example([as_example(row) for row in ROWS], output.raw_feature_spec())
    values = output.transform_features_layer()(parsed)
    return {name: value.numpy() for name, value in values.items()}, layout


def test_vocabulary_values_are_numbered_and_rare_ones_share_the_unknown(
    transformed: tuple[dict[str, Any], Any],
) -> None:
    values, layout = transformed
    ads = values[transformed_name("ad")]
    field = next(field for field in layout.categories if field.name == "ad")
    assert field.unknown == field.size - 1
    assert ads[0] == ads[1] == ads[8] == 0, "the most frequent value comes first"
    assert ads[2] == ads[6] != ads[0]
    assert ads.max() < field.size
    assert ads[9] == field.unknown, "one missing value is too rare for a number of its own"


def test_every_category_is_within_its_size(transformed: tuple[dict[str, Any], Any]) -> None:
    values, layout = transformed
    for field in layout.categories:
        numbers = values[transformed_name(field.name)]
        assert numbers.min() >= (-1 if field.width > 1 else 0) and numbers.max() < field.size, field


def test_several_values_are_cut_and_padded(transformed: tuple[dict[str, Any], Any]) -> None:
    topics = transformed[0][transformed_name("topics")]
    assert topics.shape == (12, 2)
    assert topics[0].tolist() == [-1, -1]
    assert topics[1, 1] == -1 and topics[1, 0] >= 0
    assert topics[2].tolist() == topics[3].tolist() and (topics[3] >= 0).all()


def test_quantities_are_scaled_and_their_absence_flagged(transformed: tuple[dict[str, Any], Any]) -> None:
    values, layout = transformed
    price, missing = values[transformed_name("price")], values[transformed_name(missing_name("price"))]
    assert layout.numbers == ("price", missing_name("price"))
    present = np.arange(12) != 5
    assert missing.tolist() == (~present).astype(float).tolist()
    assert price[5] == 0
    assert price[present].mean() == pytest.approx(0, abs=1e-5) and price[present].std() == pytest.approx(1, abs=1e-4)
    assert price[0] > price[2] > price[1]
    np.testing.assert_allclose(price[0] - price[2], price[2] - price[1], rtol=1e-5)


def test_buckets_go_by_quantiles(transformed: tuple[dict[str, Any], Any]) -> None:
    buckets = transformed[0][transformed_name("height")]
    assert buckets[6] == 4, "the missing one has a bucket of its own"
    present = np.delete(buckets, 6)
    assert (np.diff(present) >= 0).all() and present.max() == 3 and (np.bincount(present) >= 2).all()


def test_hours_and_weekdays(transformed: tuple[dict[str, Any], Any]) -> None:
    values, _ = transformed
    assert values[transformed_name(time_name("shown_at", "hour"))].tolist() == [*range(12, 24)]
    assert values[transformed_name(time_name("shown_at", "weekday"))].tolist() == [6] * 12
    assert values[transformed_name("clicked")].tolist() == [0, 1] * 6


def test_the_layout_names_each_field_once(transformed: tuple[dict[str, Any], Any], tmp_path: Path) -> None:
    layout = transformed[1]
    names = [field.name for field in layout.categories]
    times = {time_name("shown_at", part) for part in ("hour", "weekday")}
    assert sorted(names) == sorted({"ad", "height", "site", "topics", *times})
    assert [field.name for field in layout.multiples] == ["topics"]
    assert not layout.has_image


LARGEST = float(np.finfo(np.float32).max)
SCALED = parse_feature_table(
    {
        "clicked": {"role": "label"},
        "plain": {"role": "numeric", "scaling": "none"},
        "scaled": {"role": "numeric"},
        "logarithm": {"role": "numeric", "scaling": "log", "buckets": 5},
        "bucketed": {"role": "bucketised", "buckets": 5},
    }
)
QUANTITIES = ["plain", "scaled", "logarithm", "bucketed"]


def quantity_rows(values: np.ndarray[Any, Any]) -> list[dict[str, list[Any]]]:
    return [{"clicked": [0], **{name: [float(value)] for name in QUANTITIES}} for value in values]


def as_quantity(values: list[float]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(values, tf.float32) for name in QUANTITIES}


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> TransformGraph:
    values = np.random.default_rng(3).normal(100, 15, 2_000)
    return transform_of(quantity_rows(values), SCALED, tmp_path_factory.mktemp("scaled"))


@given(values=st.lists(st.floats(width=32), min_size=1, max_size=50))
@example(values=[math.inf, -math.inf, math.nan, LARGEST, -LARGEST, 1e-45, -0.0])
@settings(deadline=None, max_examples=50)
def test_any_number_is_read_as_one_that_training_may_have_held(scaled: TransformGraph, values: list[float]) -> None:
    categories, _, numbers = scaled.columns(as_quantity(values))
    assert np.isfinite(numbers.numpy()).all() and np.abs(numbers.numpy()[:, 2:]).max() < 20
    sizes = np.array([field.size for field in scaled.columns.layout.singles])
    assert (categories.numpy() >= 0).all() and (categories.numpy() < sizes).all()
    low, high = (np.array(limits) for limits in zip(*scaled.parameters.limits.values(), strict=True))
    nearest = np.clip(np.array(values, np.float32)[:, None], low.astype(np.float32), high.astype(np.float32))
    inputs = {name: tf.constant(nearest[:, place]) for place, name in enumerate(QUANTITIES[:3])}
    clipped = scaled.columns({**inputs, "bucketed": tf.constant(values, tf.float32)})
    np.testing.assert_array_equal(numbers, clipped.numbers)
    np.testing.assert_array_equal(categories, clipped.categories)


def test_numbers_grow_with_what_they_are_of_and_stop_beyond_training(scaled: TransformGraph) -> None:
    values = np.linspace(-500, 1_000, 400).tolist()
    categories, _, numbers = scaled.columns(as_quantity(values))
    assert (np.diff(numbers.numpy(), axis=0) >= 0).all() and (np.diff(categories.numpy(), axis=0) >= 0).all()
    for low, high in scaled.parameters.limits.values():
        assert 0 < low < 60 and 140 < high < 200, "what training held, with a margin"
    ends = scaled.columns(as_quantity([-500, -math.inf, 1_000, math.inf]))
    for part in (ends.numbers.numpy(), ends.categories.numpy()):
        np.testing.assert_array_equal(part[[0, 2]], part[[1, 3]])


def test_outliers_press_nothing_together(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    usual = random.lognormal(0, 1, 5_000).round(3)
    strange = random.choice([LARGEST, -LARGEST, 1e30, 999_999_999], 5_000)
    values = np.where(random.random(5_000) < 0.02, strange, usual)
    with_outliers = transform_of(quantity_rows(values), SCALED, tmp_path / "with")
    without = transform_of(quantity_rows(usual), SCALED, tmp_path / "without")
    found, expected = (
        graph.columns(as_quantity([0.1, 1.0, 5.0])).numbers.numpy() for graph in (with_outliers, without)
    )
    np.testing.assert_allclose(found, expected, rtol=0.1, atol=0.1)
    assert np.abs(with_outliers.columns(as_quantity([LARGEST, -LARGEST])).numbers.numpy()[:, 2:]).max() < 50


@pytest.mark.parametrize(
    "values", [[0.0] * 99 + [3.0], [7.0], [], [1e-40, 2e-40, 1e-40], [LARGEST, -LARGEST], [1e30, 2e30, 3e30]]
)
def test_whatever_training_held_the_scale_is_finite(values: list[float], tmp_path: Path) -> None:
    rows = quantity_rows(np.array(values)) or [{"clicked": [0]}]
    graph = transform_of(rows, SCALED, tmp_path / "graph")
    numbers = graph.columns(as_quantity([*values, 0.0, 1.0, math.inf, -math.inf, math.nan])).numbers.numpy()
    assert np.isfinite(numbers).all()
    if values and len(set(values)) > 1 and max(values) < 1e30:
        assert np.ptp(numbers[: len(values), 0]) == pytest.approx(np.ptp(np.array(values, np.float32)))
