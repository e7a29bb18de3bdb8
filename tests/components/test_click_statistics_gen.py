"""Statistics as TFDV gives them, whatever the files they are read from; the Transform graph from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tensorflow_transform as tft
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import standard_artifacts

from adclick.components.artifacts import FeatureAnalysis
from adclick.components.click_statistics_gen.component import ClickStatisticsGenExecutor
from adclick.components.click_transform.component import ClickTransformExecutor
from adclick.models.transform_graph import TransformGraph
from adclick.pipeline.runs.beam_runner import LOCAL_BEAM_ARGUMENTS
from adclick.schema.curated import build_schema, write_schema
from tests.models.tiny_model import FEATURES, as_example, make_creatives, make_rows

ROWS = make_rows(1_200, make_creatives(4, seed=1), seed=9)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("statistics")
    parts = {"Split-train": (ROWS[:500], ROWS[500:1_000]), "Split-eval": (ROWS[1_000:],)}
    for split, files in parts.items():
        (folder / "examples" / split).mkdir(parents=True)
        for number, rows in enumerate(files):
            with tf.io.TFRecordWriter(str(folder / "examples" / split / f"data-{number}")) as writer:
                for row in rows:
                    writer.write(as_example(row))
    (folder / "schema").mkdir()
    write_schema(build_schema(FEATURES), str(folder / "schema" / "schema.pbtxt"))
    examples, schema = standard_artifacts.Examples(), standard_artifacts.Schema()
    examples.uri, examples.split_names, examples.span = str(folder / "examples"), '["train", "eval"]', 7
    schema.uri = str(folder / "schema")
    statistics, analysis = standard_artifacts.ExampleStatistics(), FeatureAnalysis()
    statistics.uri, analysis.uri = str(folder / "statistics"), str(folder / "analysis")
    features = FEATURES.model_dump_json()
    ClickStatisticsGenExecutor(BaseBeamExecutor.Context(beam_pipeline_args=list(LOCAL_BEAM_ARGUMENTS))).Do(
        {"examples": [examples], "schema": [schema]},
        {"statistics": [statistics], "analysis": [analysis]},
        {"features": features},
    )
    assert statistics.span == analysis.span == 7
    graph = standard_artifacts.TransformGraph()
    graph.uri = str(folder / "graph")
    ClickTransformExecutor().Do(
        {"analysis": [analysis], "schema": [schema]}, {"transform_graph": [graph]}, {"features": features}
    )
    return {"statistics": folder / "statistics", "examples": folder / "examples", "graph": folder / "graph"}


def test_statistics_are_tfdvs(outputs: dict[str, Path]) -> None:
    ours = tfdv.load_stats_binary(str(outputs["statistics"] / "Split-train" / "FeatureStats.pb")).datasets[0]
    theirs = tfdv.generate_statistics_from_tfrecord(str(outputs["examples"] / "Split-train" / "data-*")).datasets[0]
    assert ours.num_examples == theirs.num_examples == 1_000
    expected = {feature.path.step[0]: feature for feature in theirs.features}
    found = {feature.path.step[0]: feature for feature in ours.features}
    assert set(expected) <= set(found)
    for name, feature in expected.items():
        assert found[name].type == feature.type, name
        kind = feature.WhichOneof("stats")
        mine, other = getattr(found[name], kind), getattr(feature, kind)
        assert mine.common_stats.num_non_missing == other.common_stats.num_non_missing, name
        if kind == "num_stats":
            assert mine.mean == pytest.approx(other.mean) and mine.std_dev == pytest.approx(other.std_dev), name
        else:
            assert mine.unique == other.unique, name
            assert {(top.value, top.frequency) for top in mine.top_values} == {
                (top.value, top.frequency) for top in other.top_values
            }, name


def test_a_split_has_its_own_statistics(outputs: dict[str, Path]) -> None:
    statistics = tfdv.load_stats_binary(str(outputs["statistics"] / "Split-eval" / "FeatureStats.pb"))
    assert statistics.datasets[0].num_examples == 200


def test_the_graph_knows_the_training_rows_values(outputs: dict[str, Path]) -> None:
    output = tft.TFTransformOutput(str(outputs["graph"]))
    layout = TransformGraph(str(outputs["graph"]), FEATURES).columns.layout
    parsed = tf.io.parse_example([as_example(row) for row in ROWS[:50]], output.raw_feature_spec())
    values = output.transform_features_layer()(parsed)
    ads = [row["ad"][0] for row in ROWS[:1_000]]
    often = {ad for ad in ads if ads.count(ad) > 1}
    field = next(field for field in layout.categories if field.name == "ad")
    assert field.size == len(often) + 1
    known = [row["ad"][0] in often for row in ROWS[:50]]
    assert [number != field.unknown for number in values["ad_xf"].numpy()] == known
