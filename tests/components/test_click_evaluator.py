"""The Evaluator's executor: against TFMA's own on the same examples, against numpy, and thresholds that hold."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from google.protobuf import json_format
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import standard_artifacts

from adclick.components.click_evaluator.executor import ClickEvaluatorExecutor
from adclick.components.worker_errors import readable_worker_errors
from adclick.models.description import THRESHOLDS_FILE, read_description, write_description
from adclick.models.evaluation import (
    BASELINE,
    CANDIDATE,
    CHANGE,
    SliceMetrics,
    build_eval_config,
    gates_of,
    read_metrics,
    read_refusals,
    read_undecided,
)
from adclick.models.held_out import HELD_OUT_FILE, HeldOut
from adclick.models.settings import EvaluationSettings, ThresholdSettings
from adclick.pipeline.runs.beam_runner import LOCAL_BEAM_ARGUMENTS
from adclick.schema.errors import ModelRefused
from adclick.serving.model_server.servable import Servable
from tests.models.tiny_model import FEATURES, TinyModel, as_example

#: The histogram of AUC: so many bins of the logit, from -16.2 to 16.2.
BINS, LARGEST_LOGIT = 8_192, 16.2

SETTINGS = EvaluationSettings(
    undecided="refuse",
    slices=(("site",), ("site", "ad"), ("topics",)),
    new_value_slices=("ad",),
    thresholds=(
        ThresholdSettings(metric="auc", lower=0.99),
        ThresholdSettings(metric="log_loss", upper=5.0),
        ThresholdSettings(metric="calibration_ratio", lower=1e6, slice=("site",)),
    ),
)


def evaluate(model: TinyModel, folder: Path, settings: EvaluationSettings, *, baseline: bool = False) -> str:
    split = folder / "examples" / "Split-eval"
    split.mkdir(parents=True)
    shutil.copy(model.files[1], split / "examples-00000")
    examples = standard_artifacts.Examples()
    examples.uri, examples.split_names = str(split.parent), '["eval"]'
    candidate, evaluation, blessing = (
        standard_artifacts.Model(),
        standard_artifacts.ModelEvaluation(),
        standard_artifacts.ModelBlessing(),
    )
    shutil.copytree(model.folder, folder / "model" / "Format-Serving")
    candidate.uri, evaluation.uri, blessing.uri = (str(folder / name) for name in ("model", "evaluation", "blessing"))
    inputs = {"examples": [examples], "model": [candidate]}
    if baseline:
        inputs["baseline_model"] = [candidate]
    config = build_eval_config(FEATURES, settings, baseline)
    ClickEvaluatorExecutor(BaseBeamExecutor.Context(beam_pipeline_args=list(LOCAL_BEAM_ARGUMENTS))).Do(
        inputs,
        {"evaluation": [evaluation], "blessing": [blessing]},
        {
            "eval_config": json_format.MessageToJson(config, preserving_proto_field_name=True),
            "example_splits": "null",
            "undecided": settings.undecided,
        },
    )
    is_blessed = blessing.get_int_custom_property("blessed") == 1
    assert is_blessed == (not read_refusals(evaluation.uri))
    assert (folder / "blessing" / ("BLESSED" if is_blessed else "NOT_BLESSED")).exists()
    return str(evaluation.uri)


@pytest.fixture(scope="module")
def evaluation(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    return evaluate(tiny_model, tmp_path_factory.mktemp("evaluator"), SETTINGS)


def by_slice(uri: str) -> dict[tuple[str, str], SliceMetrics]:
    return {(part.slice, part.model): part for part in read_metrics(uri)}


def scored(model: TinyModel, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    rows = model.rows[700:]
    examples = np.array([as_example(row) for row in rows], object)
    chance = Servable.load(folder).run("serving_examples", {"examples": examples})["click_probability"]
    return chance.astype(np.float64), np.array([row["clicked"][0] for row in rows], np.float64)


def test_metrics_are_what_they_are_called(tiny_model: TinyModel, evaluation: str) -> None:
    chance, clicked = scored(tiny_model, tiny_model.folder)
    found = by_slice(evaluation)
    overall = found["overall", CANDIDATE].metrics
    log_loss = -np.mean(clicked * np.log(chance) + (1 - clicked) * np.log(1 - chance))
    rate = clicked.mean()
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    # Predictions of one bin are ties: they differ by less than half a percent of their odds.
    bins = np.floor((np.log(chance / (1 - chance)) + LARGEST_LOGIT) * (BINS / (2 * LARGEST_LOGIT)))
    above = bins[clicked == 1][:, None] - bins[clicked == 0][None, :]
    assert overall["example_count"].value == len(clicked)
    assert overall["click_rate"].value == pytest.approx(rate)
    assert overall["log_loss"].value == pytest.approx(log_loss, rel=1e-5)
    assert overall["normalised_entropy"].value == pytest.approx(log_loss / entropy, rel=1e-5)
    assert overall["calibration_ratio"].value == pytest.approx(chance.mean() / rate, rel=1e-5)
    assert overall["auc"].value == pytest.approx((above > 0).mean() + (above == 0).mean() / 2, abs=1e-3)

    known = sum(found[name, CANDIDATE].metrics["example_count"].value for name in ("ad_known=known", "ad_known=new"))
    assert known == len(clicked)
    of_site = np.array([row["site"][0] == b"site3" for row in tiny_model.rows[700:]])
    assert found["site=site3", CANDIDATE].metrics["example_count"].value == of_site.sum()
    both = np.array([row["site"] == [b"site3"] and row["ad"] == [b"ad1"] for row in tiny_model.rows[700:]])
    assert both.sum() > 0 and found["ad=ad1, site=site3", CANDIDATE].metrics["example_count"].value == both.sum()
    with_topic = np.array([b"t2" in row["topics"] for row in tiny_model.rows[700:]])
    assert found["topics=t2", CANDIDATE].metrics["example_count"].value == with_topic.sum()


def test_tfma_measures_the_same(tiny_model: TinyModel, evaluation: str, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(
        update={"slices": (("site",),), "new_value_slices": (), "confidence_intervals": False}
    )
    config = tfma.utils.update_eval_config_with_defaults(build_eval_config(FEATURES, settings, has_baseline=False))
    tfma.run_model_analysis(
        eval_shared_model=tfma.default_eval_shared_model(str(tiny_model.folder), eval_config=config),
        eval_config=config,
        data_location=tiny_model.files[1],
        output_path=str(tmp_path / "tfma"),
    )
    ours, theirs = by_slice(evaluation), by_slice(str(tmp_path / "tfma"))
    assert len(theirs) > 5
    for key, part in theirs.items():
        for name, metric in part.metrics.items():
            # Of nearly equal predictions, two may share a bin on one side only: in a slice of twenty rows that counts.
            close = 1e-4 if "auc" not in name else 0.01 if key[0] == "overall" else 0.05
            assert ours[key].metrics[name].value == pytest.approx(metric.value, rel=2e-3, abs=close, nan_ok=True), (
                key,
                name,
            )
    refused, refused_by_tfma = (
        {reason.partition(" is ")[0] for reason in read_refusals(uri)} for uri in (evaluation, str(tmp_path / "tfma"))
    )
    assert refused == refused_by_tfma


def test_tfma_reads_the_result(evaluation: str) -> None:
    result = tfma.load_eval_result(evaluation)
    assert {key for key, _ in result.slicing_metrics} >= {(), (("site", "site3"),)}
    assert list(tfma.load_plots(evaluation)) == []


def test_a_sampled_log_is_weighed_as_all_traffic(tiny_model: TinyModel, tmp_path: Path) -> None:
    rate = 0.25
    folder = tmp_path / "sampled"
    shutil.copytree(tiny_model.folder, folder)
    description = read_description(str(folder))
    write_description(str(folder), description.model_copy(update={"negative_sampling_rate": rate}))
    output = evaluate(replace(tiny_model, folder=folder), tmp_path, EvaluationSettings(confidence_intervals=False))

    chance, clicked = scored(tiny_model, folder)
    weight = np.where(clicked == 1, 1, 1 / rate)
    overall = by_slice(output)["overall", CANDIDATE].metrics
    assert overall["click_rate"].value == pytest.approx(np.average(clicked, weights=weight), rel=1e-5)
    assert overall["calibration_ratio"].value == pytest.approx((chance * weight).sum() / clicked.sum(), rel=1e-4)
    each = clicked * np.log(chance) + (1 - clicked) * np.log(1 - chance)
    assert overall["log_loss"].value == pytest.approx(-np.average(each, weights=weight), rel=1e-4)


def test_a_refusal_names_metric_slice_and_bound(evaluation: str) -> None:
    refusals = read_refusals(evaluation)
    assert any("auc in slice overall is" in reason and "at least 0.99" in reason for reason in refusals)
    assert any("calibration_ratio in slice site=site" in reason for reason in refusals)
    assert not any("log_loss" in reason for reason in refusals)
    assert not any(
        "auc in slice site" in reason or "calibration_ratio in slice overall" in reason for reason in refusals
    )


def test_every_bound_of_a_slice_is_a_gate() -> None:
    default = EvaluationSettings()
    by_site = ThresholdSettings(metric="auc", lower=0.6, max_drop=0.1, slice=("site",))
    settings = default.model_copy(update={"thresholds": (*default.thresholds, by_site)})
    for has_baseline, overall, of_a_site in ((True, 5, 2), (False, 3, 1)):
        config = build_eval_config(FEATURES, settings, has_baseline)
        assert (gates_of([], config), gates_of(["site"], config), gates_of(["ad"], config)) == (overall, of_a_site, 0)


def test_what_chance_may_have_done_is_blessed_or_refused_as_the_config_says(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    thresholds = (
        ThresholdSettings(metric="calibration_ratio", upper=1.1),
        ThresholdSettings(metric="auc", lower=0.9, slice=("site",)),
    )
    blessing = EvaluationSettings(slices=(("site",),), thresholds=thresholds)
    output = evaluate(tiny_model, tmp_path / "blessed", blessing)
    assert read_refusals(output) == []
    undecided = read_undecided(output)
    assert any("calibration_ratio in slice overall" in line and "undecided: " in line for line in undecided)
    assert any("auc in slice site=" in line for line in undecided)

    refused = evaluate(tiny_model, tmp_path / "refused", blessing.model_copy(update={"undecided": "refuse"}))
    assert read_refusals(refused) == undecided
    assert read_undecided(refused) == []


def test_a_first_model_has_nothing_to_be_worse_than(tiny_model: TinyModel, tmp_path: Path) -> None:
    output = evaluate(
        tiny_model, tmp_path, EvaluationSettings(thresholds=(ThresholdSettings(metric="auc", max_drop=0),))
    )
    assert read_refusals(output) == []


class NothingPredictor(tf.Module):
    """Predicts NaN."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def predict(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"click_probability": tf.fill(tf.shape(examples), np.float32(np.nan))}


def test_a_model_that_predicts_nan_is_refused(tiny_model: TinyModel, tmp_path: Path) -> None:
    predictor = NothingPredictor()
    tf.saved_model.save(predictor, str(tmp_path / "nothing"), signatures={"serving_examples": predictor.predict})
    write_description(str(tmp_path / "nothing"), read_description(str(tiny_model.folder)))
    broken = replace(tiny_model, folder=tmp_path / "nothing")
    with pytest.raises(ModelRefused, match="predictions of the model are not finite"), readable_worker_errors():
        evaluate(broken, tmp_path / "evaluation", EvaluationSettings())


def test_a_model_is_no_worse_than_itself(tiny_model: TinyModel, tmp_path: Path) -> None:
    thresholds = (
        ThresholdSettings(metric="auc", max_drop=0.001),
        ThresholdSettings(metric="log_loss", max_drop=0.0001),
    )
    output = evaluate(tiny_model, tmp_path, EvaluationSettings(thresholds=thresholds), baseline=True)
    assert read_refusals(output) == []
    assert {part.model for part in read_metrics(output)} == {CANDIDATE, BASELINE, CHANGE}


def test_its_thresholds_are_those_of_the_held_out_rows(tiny_model: TinyModel, evaluation: str) -> None:
    chance, clicked = scored(tiny_model, tiny_model.folder)
    blessing = Path(evaluation).with_name("blessing") / THRESHOLDS_FILE
    found = json.loads(blessing.read_text())
    assert found == json.loads((Path(evaluation) / THRESHOLDS_FILE).read_text())
    for rate, threshold in found.items():
        above = (chance[clicked == 0] >= threshold).mean()
        assert above <= float(rate)
        # A little lower, and more of them lie above.
        assert (chance[clicked == 0] >= threshold - 0.005).mean() > float(rate)
    assert found["0.001"] > found["0.1"]


def test_the_blessing_carries_what_a_version_keeps(tiny_model: TinyModel, evaluation: str) -> None:
    held_out = HeldOut.from_bytes((Path(evaluation).with_name("blessing") / HELD_OUT_FILE).read_bytes())
    chance, _ = scored(tiny_model, tiny_model.folder)
    overall = read_metrics(evaluation)[0].metrics
    assert held_out.metrics["auc"].value == overall["auc"].value
    assert held_out.metrics["example_count"].value == len(chance) == len(held_out.audience)
    assert held_out.quantiles[100] == pytest.approx(np.median(chance), rel=0.02)
    assert {name for row in held_out.audience for name in row} == set(tiny_model.features.model_inputs)
    # The rows are the held-out ones, in an order of their own.
    given = [row["shown_at"][0] for row in tiny_model.rows[700:]]
    drawn = [row["shown_at"] for row in held_out.audience]
    assert sorted(drawn) == given
    assert drawn != given
