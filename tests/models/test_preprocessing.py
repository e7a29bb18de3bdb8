"""The Transform graph, analysed for real: what each role makes of each value."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.features import input_layout, transformed_name
from schema.feature_table import parse_feature_table
from tests.models.tiny_model import analyze, as_example

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
    output = analyze(ROWS, FEATURES, tmp_path_factory.mktemp("transform"))
    parsed = tf.io.parse_example([as_example(row) for row in ROWS], output.raw_feature_spec())
    values = output.transform_features_layer()(parsed)
    return {name: value.numpy() for name, value in values.items()}, input_layout(
        FEATURES, output.vocabulary_size_by_name
    )


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
    price, missing = values[transformed_name("price")], values[transformed_name("price_missing")]
    assert layout.numbers == ("price", "price_missing")
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
    assert values[transformed_name("hour")].tolist() == [*range(12, 24)]
    assert values[transformed_name("weekday")].tolist() == [6] * 12
    assert values[transformed_name("clicked")].tolist() == [0, 1] * 6


def test_the_layout_names_each_field_once(transformed: tuple[dict[str, Any], Any], tmp_path: Path) -> None:
    layout = transformed[1]
    names = [field.name for field in layout.categories]
    assert sorted(names) == ["ad", "height", "hour", "site", "topics", "weekday"]
    assert [field.name for field in layout.multiples] == ["topics"]
    assert not layout.has_image
