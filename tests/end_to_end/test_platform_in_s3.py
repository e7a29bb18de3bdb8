"""The pipeline as a platform runs it, all of it in S3: drops, schema, settings, artifacts, records and models."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from adclick.pipeline.runs.step_files import CONTENTS, POINTER
from adclick.storage import s3
from tests.buckets import reached
from tests.end_to_end.harness import Project, adclick, held_out_examples
from tests.pipeline.targets.fakes import FakeKubeflow, serving
from tests.pipeline.targets.walker import StepFailed, Walk, Walker
from tests.s3 import S3, running_s3

ROOT = "s3://agency/project"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with reached(running_s3(tmp_path_factory.mktemp("s3")), s3._made_client, "agency") as running:
        yield running


@pytest.fixture(scope="module")
def api() -> Iterator[FakeKubeflow]:
    api = FakeKubeflow()
    with serving(api):
        yield api


@pytest.fixture(scope="module")
def project(store: S3, api: FakeKubeflow, pushed: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project whose local run is known, all of it in S3 but its config and schema."""
    folder = tmp_path_factory.mktemp("platform")
    store.put_folder(pushed.folder / "drops", f"{ROOT}/drops")
    for name in ("config.yaml", "schema.pbtxt"):
        shutil.copy(pushed.folder / name, folder)
    project = Project(folder)

    def move(config: dict[str, Any]) -> None:
        config["data"]["root"] = f"{ROOT}/drops"
        config["output"] = f"{ROOT}/output"
        config["platform"] = {"image": "registry.example/adclick:1", "kubeflow": {"host": api.address}}

    project.edit_config(move)
    return project


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> Walker:
    return Walker(tmp_path_factory.mktemp("walks"), address=f"{ROOT}/output/pipeline_root/run")


def submit(project: Project, api: FakeKubeflow) -> dict[str, Any]:
    done = adclick("submit", "--config", project.config, "--target", "kubeflow")
    assert done.code == 0, done.text
    return dict(api.created[-1].body["pipeline_spec"])


@pytest.fixture(scope="module")
def first(project: Project, api: FakeKubeflow, walker: Walker) -> Walk:
    return walker.walk(submit(project, api))


def predictions(version: Path, examples: list[bytes]) -> Any:
    signature = tf.saved_model.load(str(version)).signatures["serving_examples"]
    return signature(examples=tf.constant(examples))["click_probability"].numpy()


def versions(store: S3) -> list[str]:
    names = store.names(f"{ROOT}/output/serving_model/adclick")
    return sorted({name.partition("/")[0] for name in names if name.endswith("/saved_model.pb")})


def test_every_step_runs_to_the_local_runs_model(store: S3, first: Walk, pushed: Project, tmp_path: Path) -> None:
    (version,) = versions(store)
    assert first.metadata("ModelPusher", "pushed_model")["pushed_version"] == version
    base = f"{ROOT}/output/serving_model/adclick/{version}"
    for name in store.names(base):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(store.get(f"{base}/{name}"))
    examples = held_out_examples(pushed, 200)
    here, there = predictions(tmp_path, examples), predictions(pushed.push_base / str(pushed.versions[0]), examples)
    np.testing.assert_allclose(here, there, rtol=0, atol=1e-6)
    assert np.ptp(here) > 0.01


def test_artifacts_have_addresses_in_the_bucket_and_their_contents_beside_them(store: S3, first: Walk) -> None:
    artifacts = [artifact for outputs in first.artifacts.values() for artifact in outputs.values()]
    assert artifacts and all(artifact.uri.startswith(f"{ROOT}/output/pipeline_root/run/") for artifact in artifacts)
    for artifact in artifacts:
        assert store.names(artifact.uri) == [POINTER], artifact.uri
        values = [str(value) for value in artifact.metadata.values()]
        assert not [value for value in values if "adclick-staging" in value], "a local path was left"
    names = store.names(f"{ROOT}/output/pipeline_root/run")
    assert [name for name in names if f"/{CONTENTS}/" in name]
    assert not [name for name in names if name.endswith("/")], "markers of folders"


def test_the_run_is_known_by_its_record(project: Project, store: S3, first: Walk) -> None:
    run = project.status()["runs"][-1]
    assert (run["state"], str(run["pushed_version"])) == ("pushed", versions(store)[0])
    assert all(uri.startswith("s3://") for uris in run["artifacts"].values() for uri in uris)
    report = adclick("report", run["run_id"], "--config", project.config)
    assert report.code == 0, report.text
    page = store.get(report.out.strip()).decode()
    assert len(page) > 100_000 and "Error: " not in page, "a part could not be read"


def test_the_same_submission_again_runs_nothing(
    project: Project, api: FakeKubeflow, walker: Walker, store: S3, first: Walk
) -> None:
    again = walker.walk(submit(project, api))
    assert again.executed == [] and len(versions(store)) == 1


def test_a_refused_model_is_compared_with_the_pushed_one_and_fails_its_gate(
    project: Project, api: FakeKubeflow, walker: Walker, store: S3, first: Walk
) -> None:
    project.edit_config(lambda config: config["training"].update(warm_start=True))
    project.edit_config(lambda config: config["evaluation"].update(thresholds=[{"metric": "auc", "lower": 0.999}]))
    with pytest.raises(StepFailed, match=r"auc in slice overall is [\d.]+; required: at least 0\.999") as failed:
        walker.walk(submit(project, api))
    assert failed.value.step == "ModelGate" and "BaselineModel" in failed.value.walk.executed
    assert len(versions(store)) == 1
    assert project.status()["runs"][-1]["state"] == "model_refused"


def test_refused_data_are_told_by_their_address(
    project: Project, api: FakeKubeflow, walker: Walker, store: S3, first: Walk
) -> None:
    for name in store.names(f"{ROOT}/drops/2026-09"):
        if name.endswith(".csv"):
            lines = store.get(f"{ROOT}/drops/2026-09/{name}").splitlines(keepends=True)
            broken = b"".join(b"no row\n" if number and number % 5 == 0 else line for number, line in enumerate(lines))
            store.put(f"{ROOT}/broken/2026-09/{name}", broken)
    project.edit_config(lambda config: config["data"].update(root=f"{ROOT}/broken"))
    with pytest.raises(StepFailed, match="are quarantined") as failed:
        walker.walk(submit(project, api))
    assert failed.value.step == "DataGate-2026-09"
    assert "adclick-staging" not in failed.value.log.rpartition("error:")[2]


def test_vertex_and_other_engines_are_refused(project: Project, api: FakeKubeflow) -> None:
    done = adclick("submit", "--config", project.config, "--target", "vertex")
    assert done.code == 2 and "Vertex AI keeps artifacts in gs:// only" in done.err, done.text
    project.edit_config(lambda config: config["platform"].update(beam_arguments=["--runner=FlinkRunner"]))
    done = adclick("submit", "--config", project.config, "--target", "kubeflow")
    assert done.code == 2 and "platform.beam_arguments" in done.err, done.text
