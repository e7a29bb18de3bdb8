"""The pipeline as a platform runs it: submitted over a socket, then executed step by step by its own commands.

The steps run in the environment of the pipeline's image, as its Dockerfile installs it, not in that of the tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import yaml

from adclick.pipeline.config.settings import Config, load_config
from adclick.pipeline.monitor.baseline import load_baseline
from adclick.pipeline.runs.step_files import POINTER
from adclick.pipeline.targets.schedule import Schedule
from adclick.pipeline.targets.submission import compile_run, submit_run, submit_schedule
from adclick.pipeline.targets.window import resolve_window
from tests.deploy.image_environment import make_image_environment
from tests.end_to_end.harness import Project, adclick, held_out_examples
from tests.gcs import running_storage
from tests.pipeline.targets.fakes import FakeKubeflow, serving
from tests.pipeline.targets.walker import StepFailed, Walk, Walker

#: What the first month's steps are called, and the schema's.
REUSABLE = {f"{step}-2026-08" for step in ("AdExampleGen", "StatisticsGen", "ExampleValidator", "DataGate")} | {
    "ImportSchemaGen"
}


@dataclass
class Platform:
    """A project whose runs go to Kubeflow, and what stands in for Kubeflow."""

    project: Project
    api: FakeKubeflow
    python: Path
    walker: Walker

    @property
    def config(self) -> Config:
        return load_config(self.project.config)

    def submit(self) -> dict[str, Any]:
        """Submits a run; gives the pipeline spec that reached the API."""
        # Not by the command line, which refuses local folders: no pod could reach them.
        assert submit_run(self.config, "kubeflow").address == "run-1"
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
    python = make_image_environment(tmp_path_factory.mktemp("image"))
    api = FakeKubeflow()
    with serving(api):
        # Here the steps reach the API by an address of their own, too.
        in_cluster = api.address.replace("127.0.0.1", "localhost")
        kubeflow = {"host": api.address, "cluster_host": in_cluster}
        config["platform"] = {"image": "registry.example/adclick:1", "kubeflow": kubeflow}
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        yield Platform(Project(folder), api, python, Walker(folder / "walks", python=python))


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


def test_the_launcher_copies_no_contents_into_a_pod(first: Walk) -> None:
    copied = [file for files in first.copied.values() for file in files]
    assert copied
    assert {file.name for file in copied} == {POINTER}
    assert sum(file.stat().st_size for file in copied) < 100_000


def test_the_same_submission_again_runs_nothing(platform: Platform, first: Walk) -> None:
    versions = platform.project.versions

    again = platform.walker.walk(platform.submit())

    assert not again.executed
    assert set(again.reused) == set(first.executed)
    assert platform.project.versions == versions


def test_a_platforms_run_leaves_the_record_that_a_local_run_does(
    platform: Platform, first: Walk, pushed: Project
) -> None:
    status = platform.project.status()
    (version,) = platform.project.versions
    # The same input again is the same run.
    (run,), (local,) = status["runs"], pushed.status()["runs"]
    assert (run["state"], run["pushed_version"], run["platform"]) == ("pushed", version, "run-1")
    # A platform's steps share no store of creatives.
    assert run["drops"] == [
        {**drop, "images_by_reading": {}, "quarantine_uri": mine["quarantine_uri"], "uri": mine["uri"]}
        for drop, mine in zip(local["drops"], run["drops"], strict=True)
    ]
    assert [found["slice"] for found in run["evaluation"]] == [found["slice"] for found in local["evaluation"]]

    page = Path(adclick("report", "--config", platform.project.config).out.strip()).read_text()
    assert 'class="problems"' not in page
    baseline, local_baseline = (
        load_baseline(load_config(project.config), project.versions[0]) for project in (platform.project, pushed)
    )
    assert (baseline.rows, baseline.click_rate) == (local_baseline.rows, local_baseline.click_rate)
    assert baseline.categorical == local_baseline.categorical


def test_status_report_and_monitor_read_a_platforms_run_from_its_bucket(
    platform: Platform, first: Walk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, bucket = platform.project.output, "gs://platform-runs/output"
    walks = platform.project.folder / "walks"
    with running_storage(tmp_path / "storage") as storage:
        for name, value in storage.environment.items():
            monkeypatch.setenv(name, value)
        storage.make_bucket("platform-runs")
        storage.put_folder(output / "serving_model", f"{bucket}/serving_model")
        storage.put_folder(walks, f"{bucket}/walks")
        for record in (output / "runs").glob("*/run.json"):
            text = record.read_text().replace(str(walks), f"{bucket}/walks").replace(str(output), bucket)
            storage.put(f"{bucket}/runs/{record.parent.name}/run.json", text.encode())
        config = yaml.safe_load(platform.project.config.read_text())
        file = platform.project.folder / "in-a-bucket.yaml"
        file.write_text(yaml.safe_dump({**config, "output": bucket}))

        status = json.loads(adclick("status", "--config", file, "--json").out)
        (version,) = platform.project.versions
        assert status["runs"][0]["pushed_version"] == version
        assert status["models"]["adclick"]["served_version"] == version
        page = adclick("report", "--config", file)
        assert page.out.strip() == f"{bucket}/runs/{status['runs'][0]['run_id']}/report.html", page.text
        assert b'class="problems"' not in storage.get(page.out.strip())
        known = load_baseline(load_config(platform.project.config), version)
        assert load_baseline(load_config(file), version) == known


def test_a_later_run_meets_the_pushed_model_and_a_worse_one_is_not_pushed(platform: Platform, first: Walk) -> None:
    versions = platform.project.versions

    def demand_too_much(config: dict[str, Any]) -> None:
        config["evaluation"]["thresholds"] = [{"metric": "auc", "lower": 0.999, "max_drop": 0.5}]

    before = platform.project.config.read_text()
    platform.project.edit_config(demand_too_much)
    try:
        with pytest.raises(StepFailed) as failed:
            platform.walker.walk(platform.submit())
    finally:
        platform.project.config.write_text(before)

    # The platform shows a failed run, and where it failed says why.
    assert (failed.value.step, failed.value.code) == ("ModelGate", 4)
    assert re.search(r"auc in slice overall is 0\.\d+; required: at least 0\.999", failed.value.log)
    walk = failed.value.walk
    assert "BaselineModel" in walk.executed
    assert set(walk.reused) >= {*REUSABLE, "AdExampleGen-2026-09", "Transform", "ClickTrainer"}
    baseline = walk.metadata("BaselineModel", "model")["pushed_version"]
    assert baseline == str(platform.project.push_base / str(versions[-1]))
    assert walk.metadata("Evaluator", "blessing")["blessed"] == 0
    assert walk.metadata("ModelPusher", "pushed_model")["pushed"] == 0
    assert platform.project.versions == versions
    newest = platform.project.status()["runs"][-1]
    assert newest["state"] == "model_refused"
    assert any(re.search(r"auc in slice overall is 0\.\d+", reason) for reason in newest["reasons"])


def test_the_scheduled_pipeline_submits_the_run_of_the_month_that_it_is_asked_for(platform: Platform) -> None:
    submit_schedule(platform.config, "kubeflow", Schedule("0 6 2 * *", "adclick-monthly"))
    body = platform.api.created[-1].body
    assert body["trigger"] == {"cron_schedule": {"cron": "0 0 6 2 * *"}}
    assert body["runtime_config"]["parameters"] == {"month": "latest", "window": 0}
    # Who schedules reaches the API by another address than the step in the cluster.
    assert platform.config.platform.kubeflow.host != platform.config.platform.kubeflow.cluster_host

    # In a fresh process, by the very command that the container has.
    walker = Walker(platform.project.folder / "monthly", python=platform.python, fork=False)
    walker.walk(body["pipeline_spec"], {"month": "2026-08", "window": 1})

    tasks = platform.submitted["root"]["dag"]["tasks"]
    assert {name for name in tasks if name.startswith("AdExampleGen")} == {"AdExampleGen-2026-08"}
    assert tasks["AdExampleGen-2026-08"]["inputs"]["parameters"]["drop_uri"]["runtimeValue"]["constant"].endswith(
        "drops/2026-08"
    )


def test_compile_gives_what_submit_sends(platform: Platform) -> None:
    platform.submit()  # gives the run of this input its id
    window = resolve_window(platform.config)
    for_kubeflow, for_vertex = (compile_run(platform.config, target, window).job for target in ("kubeflow", "vertex"))

    sent = platform.submit()

    assert sent == for_kubeflow["pipelineSpec"]
    for executor in sent["deploymentSpec"]["executors"].values():
        executor["container"]["args"].remove("--contents-apart")
    for spec in (sent, for_vertex["pipelineSpec"]):
        for component in spec["components"].values():
            for declared in component.get("inputDefinitions", {}).get("artifacts", {}).values():
                # Kubeflow gets of an input's type the name alone.
                declared["artifactType"] = yaml.safe_load(declared["artifactType"]["instanceSchema"])["title"]
    assert sent == for_vertex["pipelineSpec"]


@pytest.mark.parametrize("target", ["kubeflow", "vertex"])
def test_local_folders_are_refused_before_anything_is_sent(platform: Platform, tmp_path: Path, target: str) -> None:
    sent = len(platform.api.requests)
    common = ("--config", platform.project.config, "--target", target)
    file = tmp_path / ("pipeline.yaml" if target == "kubeflow" else "pipeline.json")
    for command in (
        ("compile", *common, "--output", file),
        ("submit", *common),
        ("schedule", *common, "--cron", "0 6 2 * *"),
    ):
        done = adclick(*command)
        assert done.code == 2, done.text
        assert f"output is {platform.project.output}" in done.err
    assert not file.exists()
    assert len(platform.api.requests) == sent

    wrong = adclick("compile", *common, "--output", tmp_path / "pipeline.txt")
    assert wrong.code == 2
    assert "ends in ." in wrong.err
