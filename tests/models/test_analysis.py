"""The analysis against TensorFlow Transform's own analyzers, against numpy, and its parts against the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io

from adclick.models.analysis import Analysis, boundaries, merge, read_analysis, vocabulary, write_analysis
from adclick.models.features import transformed_name
from adclick.models.transform_graph import TransformGraph, write_transform_graph
from adclick.schema.feature_table import parse_feature_table
from adclick.schema.roles.inputs import bucket_name
from benchmarks.stock.preprocessing import FEATURES_KEY, preprocessing_fn
from tests.models.tiny_model import FEATURES, analysis_of, as_example, make_creatives, make_rows, schema_of

ROWS = make_rows(2_000, make_creatives(4, seed=1), seed=5)


def analyze_by_tensorflow_transform(folder: Path) -> tft.TFTransformOutput:
    """Runs TensorFlow Transform's own analysis over the rows and writes its output to `folder`."""
    metadata = dataset_metadata.DatasetMetadata(schema_of(FEATURES))
    config = {FEATURES_KEY: FEATURES.model_dump_json()}
    with tft_beam.Context(temp_dir=str(folder / "temporary")):
        transform = (ROWS, metadata) | tft_beam.AnalyzeDataset(lambda inputs: preprocessing_fn(inputs, config))
        _ = transform | tft_beam.WriteTransformFn(str(folder))
    metadata_io.write_metadata(metadata, str(folder / "metadata"))
    return tft.TFTransformOutput(str(folder))


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analysis_of(ROWS, FEATURES)


def test_the_graph_is_that_of_tensorflow_transform(analysis: Analysis, tmp_path: Path) -> None:
    theirs = analyze_by_tensorflow_transform(tmp_path / "theirs")
    write_transform_graph(analysis, schema_of(FEATURES), FEATURES, str(tmp_path / "ours"))
    ours = tft.TFTransformOutput(str(tmp_path / "ours"))
    specs = ours.raw_feature_spec()
    parsed = tf.io.parse_example([as_example(row) for row in ROWS], specs)
    expected, found = theirs.transform_features_layer()(parsed), ours.transform_features_layer()(parsed)
    assert set(found) == set(expected)
    for name in found:
        if name in (transformed_name(bucket_name("price")), transformed_name("height")):
            # Quantiles are approximate in both: few values lie between the two boundaries.
            assert np.mean(np.asarray(found[name]) != np.asarray(expected[name])) < 0.02, name
        else:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
    known = TransformGraph(str(tmp_path / "ours"), FEATURES).vocabularies()["ad"]
    assert known == theirs.vocabulary_by_name("ad")


def test_months_add_up(analysis: Analysis, tmp_path: Path) -> None:
    for number, rows in enumerate((ROWS[:900], ROWS[900:1_000], ROWS[1_000:])):
        write_analysis(analysis_of(rows, FEATURES), str(tmp_path / str(number)))
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
    found = analysis_of([{"clicked": [0], "price": [], "ad": []}] * 3, features)
    assert vocabulary(found.values["ad"], 1, 10) == [b"<missing>"]
    assert found.moments["price"].deviation == 0
    assert boundaries(found.distributions["price"], 4) == [0.0]


def test_a_value_that_fills_a_bucket_has_it_alone() -> None:
    random = np.random.default_rng(1)
    heights = np.where(random.random(4_000) < 0.95, 0.0, random.gamma(2, 3, 4_000) + 1e-3)
    rows = [{**ROWS[0], "height": [float(height)]} for height in heights]
    found = boundaries(analysis_of(rows, FEATURES).distributions["height"], 8)
    inside = np.histogram(heights, [-np.inf, *found, np.inf])[0]
    assert len(found) < 8 and (np.digitize(heights[heights > 1], found) > np.digitize(0.0, found)).all()
    assert inside[0] == pytest.approx((heights == 0).sum(), abs=8)
    np.testing.assert_allclose(inside[1:], (heights > 0).sum() / (len(inside) - 1), rtol=0.4)


def test_few_values_have_a_bucket_each() -> None:
    rows = [{**ROWS[0], "height": [float(number % 3)]} for number in range(300)]
    assert boundaries(analysis_of(rows, FEATURES).distributions["height"], 8)[:2] == [1.0, 2.0]


def test_equal_quantities_make_few_buckets() -> None:
    rows = [{**row, "height": [1.0]} for row in ROWS[:100]]
    assert boundaries(analysis_of(rows, FEATURES).distributions["height"], 8) == [1.0]
