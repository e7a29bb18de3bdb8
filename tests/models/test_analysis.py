"""The analysis against TensorFlow Transform's own analyzers, against numpy, and its parts against the whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import impl_helper

from components.example_files import example_decoder
from models.analysis import Analysis, Analyzer, boundaries, merge, read_analysis, vocabulary, write_analysis
from models.features import transformed_name
from models.preprocessing import KnownAnalyzers, transform_features
from schema.feature_table import parse_feature_table
from tests.models.tiny_model import FEATURES, analyze, as_example, make_creatives, make_rows

ROWS = make_rows(2_000, make_creatives(4, seed=1), seed=5)


def analysis_of(rows: list[Any]) -> Analysis:
    decoder = example_decoder(FEATURES, [*FEATURES.used])
    analyzer = Analyzer(FEATURES)
    for start in range(0, len(rows), 300):
        analyzer.add(decoder.DecodeBatch([as_example(row) for row in rows[start : start + 300]]))
    return analyzer.result()


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analysis_of(ROWS)


def test_the_graph_is_that_of_tensorflow_transform(analysis: Analysis, tmp_path: Path) -> None:
    theirs = analyze(ROWS, FEATURES, tmp_path / "theirs")
    specs = {name: spec for name, spec in theirs.raw_feature_spec().items() if name in FEATURES.used}
    types = {name: tf.SparseTensorSpec([None, None], spec.dtype) for name, spec in specs.items()}
    work = tmp_path / "work"
    work.mkdir()
    analyzers = KnownAnalyzers(analysis, str(work))

    def transform(inputs: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        return transform_features(inputs, FEATURES, analyzers)

    impl_helper.analyze_in_place(transform, False, specs, types, str(tmp_path / "ours"))
    ours = tft.TFTransformOutput(str(tmp_path / "ours"))
    for path in work.iterdir():
        path.unlink()

    parsed = tf.io.parse_example([as_example(row) for row in ROWS], specs)
    expected, found = theirs.transform_features_layer()(parsed), ours.transform_features_layer()(parsed)
    assert set(found) == set(expected)
    for name in found:
        if name in (transformed_name("price_bucket"), transformed_name("height")):
            # Quantiles are approximate in both: few values lie between the two boundaries.
            assert np.mean(np.asarray(found[name]) != np.asarray(expected[name])) < 0.02, name
        else:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
    assert ours.vocabulary_size_by_name("ad") == theirs.vocabulary_size_by_name("ad")


def test_months_add_up(analysis: Analysis, tmp_path: Path) -> None:
    for number, rows in enumerate((ROWS[:900], ROWS[900:1_000], ROWS[1_000:])):
        write_analysis(analysis_of(rows), str(tmp_path / str(number)))
    merged = merge([read_analysis(str(tmp_path / str(number))) for number in range(3)])
    for name, table in analysis.values.items():
        assert vocabulary(merged.values[name], 1, 1_000) == vocabulary(table, 1, 1_000)
    for name, moments in analysis.moments.items():
        assert merged.moments[name].count == moments.count
        assert merged.moments[name].mean == pytest.approx(moments.mean)
        assert merged.moments[name].deviation == pytest.approx(moments.deviation)
    heights = np.array([row["height"][0] for row in ROWS])
    for buckets in (4, 10):
        found = boundaries(merged.distributions["height"], buckets)
        share = np.diff([0, *((heights < bound).mean() for bound in found), 1])
        np.testing.assert_allclose(share, 1 / buckets, atol=0.01)


def counts(**values: int) -> pa.Table:
    found = [value.encode() for value in values]
    return pa.table({"value": pa.array(found, pa.large_binary()), "count": pa.array(list(values.values()))})


def test_a_vocabulary_is_ordered_and_cut() -> None:
    table = counts(rare=1, b=3, a=3, often=9)
    assert vocabulary(table, 2, 10) == [b"often", b"b", b"a"]
    assert vocabulary(table, 1, 2) == [b"often", b"b"]


def test_a_vocabulary_is_never_empty() -> None:
    assert vocabulary(counts(rare=1), 2, 10) == [b"<missing>"]


def test_what_no_vocabulary_file_can_hold_is_left_out() -> None:
    table = pa.table({"value": pa.array([b"", b"a\nb", b"kept"], pa.large_binary()), "count": pa.array([9, 9, 9])})
    assert vocabulary(table, 1, 10) == [b"kept"]


def test_a_column_without_a_value_has_an_analysis() -> None:
    features = parse_feature_table(
        {
            "clicked": {"role": "label"},
            "price": {"role": "numeric", "buckets": 4},
            "ad": {"role": "categorical", "min_count": 1},
        }
    )
    analyzer = Analyzer(features)
    rows = [{"clicked": [0], "price": [], "ad": []}] * 3
    decoder = example_decoder(features, [*features.used])
    analyzer.add(decoder.DecodeBatch([as_example(row) for row in rows]))
    found = analyzer.result()
    assert vocabulary(found.values["ad"], 1, 10) == [b"<missing>"]
    assert found.moments["price"].deviation == 0
    assert boundaries(found.distributions["price"], 4) == [0.0]


def test_equal_quantities_make_few_buckets() -> None:
    rows = [{**row, "height": [1.0]} for row in ROWS[:100]]
    assert boundaries(analysis_of(rows).distributions["height"], 8) == [1.0]
