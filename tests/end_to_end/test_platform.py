"""The pipeline as a platform runs it: submitted over a socket, then executed step by step by its own commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import yaml

from tests.end_to_end.harness import Done, Project, adclick, held_out_examples
from tests.pipeline.platform.fakes import FakeKubeflow, serving
from tests.pipeline.platform.walker import Walk, Walker

#: What the first month's steps are called, and the schema's.
REUSABLE = {f"{step}-2026-08" for step in ("AdExampleGen", "StatisticsGen", "ExampleValidator", "DataGate")} | {
    "ImportSchemaGen"
}


@dataclass
class Platform:
    """A project whose runs go to Kubeflow, and what stands in for Kubeflow."""

    project: Project
    api: FakeKubeflow
    walker: Walker

    def submit(self, *arguments: str) -> dict[str, Any]:
        """Submits a run; gives the pipeline spec that reached the API."""
        done = adclick("submit", "--config", self.project.config, "--target", "kubeflow", *arguments)
        assert done.code == 0, done.text
        assert "run-1" in done.out
        return self.submitted

    @property
    def submitted(self) -> dict[str, Any]:
        return dict(self.api.created[-1].body["pipeline_spec"])


@pytest.fixture(scope="module")
def platform(pushed: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The drops, config and schema of the project that ran locally, with an output folder of its own."""
    folder = tmp_path_factory.mktemp("platform")
    config = yaml.safe_load(pushed.config.read_text())
    config["data"]["root"] = str(pushed.folder / "drops")
    (folder / "schema.pbtxt").write_text((pushed.folder / "schema.pbtxt").read_text())
    api = FakeKubeflow()
    with serving(api):
        config["platform"] = {"image": "registry.example/adclick:1", "kubeflow": {"host": api.address}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        yield Platform(Project(folder), api, Walker(folder / "walks"))


@pytest.fixture(scope="module")
def first(platform: Platform) -> Walk:
    return platform.walker.walk(platform.submit())


def predictions(version: Path, examples: list[bytes]) -> Any:
    signature = tf.saved_model.load(str(version)).signatures["serving_examples"]
    return signature(examples=tf.constant(examples))["click_probability"].numpy()


def test_every_step_runs_to_the_local_runs_model(platform: Platform, first: Walk, pushed: Project) -> None:
    assert not first.reused
    assert first.metadata("Evaluator", "blessing")["blessed"] == 1
    assert first.metadata("ServingValidator", "blessing")["blessed"] == 1
    pushed_model = first.metadata("ModelPusher", "pushed_model")
    (version,) = platform.project.versions
    assert (pushed_model["pushed"], pushed_model["pushed_version"]) == (1, str(version))
    counted = first.metadata("AdExampleGen-2026-09", "examples")
    local = next(drop for drop in pushed.status()["runs"][0]["drops"] if drop["name"] == "2026-09")
    assert {name: counted[name] for name in ("rows_in", "rows_examples")} == {
        name: local[name] for name in ("rows_in", "rows_examples")
    }

    examples = held_out_examples(pushed, 200)
    here = predictions(platform.project.push_base / str(version), examples)
    there = predictions(pushed.push_base / str(pushed.versions[0]), examples)
    np.testing.assert_allclose(here, there, rtol=0, atol=1e-6)
    assert np.ptp(here) > 0.01


def test_the_same_submission_again_runs_nothing(platform: Platform, first: Walk) -> None:
    versions = platform.project.versions

    again = platform.walker.walk(platform.submit())

    assert not again.executed
    assert set(again.reused) == set(first.executed)
    assert platform.project.versions == versions


def test_a_later_run_meets_the_pushed_model_and_a_worse_one_is_not_pushed(platform: Platform, first: Walk) -> None:
    versions = platform.project.versions

    def demand_too_much(config: dict[str, Any]) -> None:
        config["evaluation"]["thresholds"] = [{"metric": "auc", "lower": 0.999, "max_drop": 0.5}]

    before = platform.project.config.read_text()
    platform.project.edit_config(demand_too_much)
    try:
        walk = platform.walker.walk(platform.submit())
    finally:
        platform.project.config.write_text(before)

    assert "BaselineModel" in walk.executed
    assert set(walk.reused) >= {*REUSABLE, "AdExampleGen-2026-09", "Transform", "ClickTrainer"}
    baseline = walk.metadata("BaselineModel", "model")["pushed_version"]
    assert baseline == str(platform.project.push_base / str(versions[-1]))
    assert walk.metadata("Evaluator", "blessing")["blessed"] == 0
    assert walk.metadata("ModelPusher", "pushed_model")["pushed"] == 0
    assert platform.project.versions == versions


def test_the_scheduled_pipeline_submits_the_run_of_the_month_that_it_is_asked_for(platform: Platform) -> None:
    schedule = ("schedule", "--config", platform.project.config, "--target", "kubeflow", "--cron", "0 6 2 * *")
    done = adclick(*schedule)
    assert done.code == 0, done.text
    body = platform.api.created[-1].body
    assert body["trigger"] == {"cron_schedule": {"cron": "0 0 6 2 * *"}}
    assert body["runtime_config"]["parameters"] == {"month": "latest", "window": 0}

    # In a fresh process, by the very command that the container has.
    walker = Walker(platform.project.folder / "monthly", fork=False)
    walker.walk(body["pipeline_spec"], {"month": "2026-08", "window": 1})

    tasks = platform.submitted["root"]["dag"]["tasks"]
    assert {name for name in tasks if name.startswith("AdExampleGen")} == {"AdExampleGen-2026-08"}
    assert tasks["AdExampleGen-2026-08"]["inputs"]["parameters"]["drop_uri"]["runtimeValue"]["constant"].endswith(
        "drops/2026-08"
    )


def test_a_refused_submission_ends_with_its_own_exit_code(platform: Platform) -> None:
    platform.api.refusal = (403, "User cannot create runs")
    try:
        done: Done = adclick("submit", "--config", platform.project.config, "--target", "kubeflow")
    finally:
        platform.api.refusal = None
    assert done.code == 7
    assert "403 User cannot create runs" in done.err
    assert "Let the caller create runs" in done.err


def test_compile_writes_what_submit_sends(platform: Platform, tmp_path: Path) -> None:
    common = ("compile", "--config", platform.project.config)
    as_yaml, as_json = tmp_path / "pipeline.yaml", tmp_path / "pipeline.json"
    assert adclick(*common, "--target", "kubeflow", "--output", as_yaml).code == 0
    assert adclick(*common, "--target", "vertex", "--output", as_json).code == 0

    sent = platform.submit()
    root = {"defaultPipelineRoot": str(platform.project.output / "pipeline_root")}
    assert yaml.safe_load(as_yaml.read_text()) == sent | root
    assert json.loads(as_json.read_text())["pipelineSpec"] == sent

    wrong = adclick(*common, "--target", "vertex", "--output", tmp_path / "pipeline.yaml")
    assert wrong.code == 2
    assert "ends in .json" in wrong.err
