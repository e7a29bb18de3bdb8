"""Metrics by a real TFMA run against numpy's, and thresholds that hold where they say."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_model_analysis as tfma

from models.description import read_description, write_description
from models.evaluation import BASELINE, CANDIDATE, build_eval_config, custom_extractors, read_metrics, read_refusals
from models.settings import EvaluationSettings, ThresholdSettings
from schema.errors import ConfigError
from serving.model_server.servable import Servable
from tests.models.tiny_model import FEATURES, TinyModel, as_example


def evaluate(model: TinyModel, output: Path, settings: EvaluationSettings, *, baseline: bool = False) -> str:
    config = tfma.utils.update_eval_config_with_defaults(
        build_eval_config(FEATURES, settings, baseline), has_baseline=baseline, rubber_stamp=True
    )
    models = [
        tfma.default_eval_shared_model(str(model.folder), model_name=spec.name, eval_config=config)
        for spec in config.model_specs
    ]
    shared = models if baseline else models[0]
    tfma.run_model_analysis(
        eval_shared_model=shared,
        eval_config=config,
        data_location=model.files[1],
        output_path=str(output),
        extractors=custom_extractors(shared, config, None),
    )
    return str(output)


@pytest.fixture(scope="module")
def evaluation(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    settings = EvaluationSettings(
        slices=(("site",),),
        new_value_slices=("ad",),
        confidence_intervals=False,
        thresholds=(
            ThresholdSettings(metric="auc", lower=0.99),
            ThresholdSettings(metric="log_loss", upper=5.0),
            ThresholdSettings(metric="calibration_ratio", lower=1e6, slice=("site",)),
        ),
    )
    return evaluate(tiny_model, tmp_path_factory.mktemp("evaluation"), settings)


def test_metrics_are_what_they_are_called(tiny_model: TinyModel, evaluation: str) -> None:
    rows = tiny_model.rows[700:]
    examples = np.array([as_example(row) for row in rows], object)
    chance = Servable.load(tiny_model.folder).run("serving_examples", {"examples": examples})["click_probability"]
    chance = chance.astype(np.float64)
    clicked = np.array([row["clicked"][0] for row in rows], np.float64)
    found = {(part.slice, part.model): part.metrics for part in read_metrics(evaluation)}
    overall = found["overall", CANDIDATE]

    log_loss = -np.mean(clicked * np.log(chance) + (1 - clicked) * np.log(1 - chance))
    rate = clicked.mean()
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    above = chance[clicked == 1][:, None] - chance[clicked == 0][None, :]
    assert overall["example_count"].value == len(rows)
    assert overall["click_rate"].value == pytest.approx(rate)
    assert overall["log_loss"].value == pytest.approx(log_loss, rel=1e-5)
    assert overall["normalised_entropy"].value == pytest.approx(log_loss / entropy, rel=1e-5)
    assert overall["calibration_ratio"].value == pytest.approx(chance.mean() / rate, rel=1e-5)
    assert overall["auc"].value == pytest.approx((above > 0).mean() + (above == 0).mean() / 2, abs=2e-3)

    known = sum(found[name, CANDIDATE]["example_count"].value or 0 for name in ("ad_known=known", "ad_known=new"))
    assert known == len(rows)
    of_site = np.array([row["site"][0] == b"site3" for row in rows])
    assert found["site=site3", CANDIDATE]["example_count"].value == of_site.sum()


def test_a_sampled_log_is_weighed_as_all_traffic(tiny_model: TinyModel, tmp_path: Path) -> None:
    rate = 0.25
    folder = tmp_path / "model"
    shutil.copytree(tiny_model.folder, folder)
    description = read_description(str(folder))
    write_description(str(folder), description.model_copy(update={"negative_sampling_rate": rate}))
    sampled = replace(tiny_model, folder=folder)
    output = evaluate(sampled, tmp_path / "evaluation", EvaluationSettings(confidence_intervals=False))

    rows = tiny_model.rows[700:]
    examples = np.array([as_example(row) for row in rows], object)
    chance = Servable.load(folder).run("serving_examples", {"examples": examples})["click_probability"]
    clicked = np.array([row["clicked"][0] for row in rows], np.float64)
    weight = np.where(clicked == 1, 1, 1 / rate)
    overall = read_metrics(output)[0].metrics
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


def test_a_model_is_no_worse_than_itself(tiny_model: TinyModel, tmp_path: Path) -> None:
    thresholds = (
        ThresholdSettings(metric="auc", max_drop=0.001),
        ThresholdSettings(metric="log_loss", max_drop=0.0001),
    )
    settings = EvaluationSettings(thresholds=thresholds, confidence_intervals=False)
    output = evaluate(tiny_model, tmp_path / "evaluation", settings, baseline=True)
    assert read_refusals(output) == []
    assert {part.model for part in read_metrics(output)} == {CANDIDATE, BASELINE}


@pytest.mark.parametrize(
    ("threshold", "named"),
    [
        (ThresholdSettings(metric="accuracy", lower=0.5), "accuracy"),
        (ThresholdSettings(metric="calibration_ratio", max_drop=0.1), "calibration_ratio"),
    ],
)
def test_a_threshold_that_cannot_be_is_refused(threshold: ThresholdSettings, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        build_eval_config(FEATURES, EvaluationSettings(thresholds=(threshold,)), has_baseline=True)


def thresholds_of(config: Any) -> list[Any]:
    metrics = [metric for spec in config.metrics_specs for metric in spec.metrics]
    return [part.threshold for metric in metrics for part in metric.per_slice_thresholds]


@pytest.mark.parametrize(("metric", "sign"), [("auc", -1), ("log_loss", 1), ("normalised_entropy", 1)])
def test_a_drop_is_a_drop_in_either_direction(metric: str, sign: int) -> None:
    settings = EvaluationSettings(thresholds=(ThresholdSettings(metric=metric, max_drop=0.03),))
    config = build_eval_config(FEATURES, settings, has_baseline=True)
    (threshold,) = thresholds_of(config)
    assert threshold.change_threshold.absolute.value == pytest.approx(sign * 0.03)
    (without,) = thresholds_of(build_eval_config(FEATURES, settings, has_baseline=False))
    assert not without.HasField("change_threshold")
