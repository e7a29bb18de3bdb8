"""Beam's work on an engine, in other processes, gives what a local run gives."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from adclick.components.splits import SPLITS
from tests.beam import job_service, worker_pool
from tests.end_to_end.harness import ADCLICK, Project, environment, small_project
from tests.flink import flink_cluster, job_server_jar, wait_until

_COUNTS = ("rows_in", "rows_examples", "rows_quarantined", "rows_duplicate", "quarantined_by_reason")


@pytest.fixture(scope="module")
def one_month(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A local run of one month, to compare with."""
    project = small_project(tmp_path_factory.mktemp("one_month") / "project", months=1)
    done = project.run()
    assert done.code == 0, done.text
    return project


def project_like(pushed: Project, folder: Path) -> Project:
    """A project on the same drops, without anything made of them."""
    folder.mkdir()
    (folder / "drops").symlink_to(pushed.folder / "drops", target_is_directory=True)
    for name in ("config.yaml", "schema.pbtxt"):
        shutil.copy(pushed.folder / name, folder / name)
    return Project(folder)


def records(project: Project, month: str, split: str) -> list[bytes]:
    """The examples of a split, sorted: an engine writes them in files of its own choosing."""
    import tensorflow as tf

    def canonical(record: bytes) -> bytes:
        """Its columns in order: they are a map, whose order differs from process to process."""
        return tf.train.Example.FromString(record).SerializeToString(deterministic=True)

    folder = project.output / "pipeline_root" / f"AdExampleGen-{month}" / "examples"
    files = sorted(str(file) for file in folder.glob(f"*/Split-{split}/*"))
    return sorted(canonical(record.numpy()) for record in tf.data.TFRecordDataset(files))


def assert_equal(ours: Project, local: Project) -> None:
    """Ingestion, statistics, Transform graph and evaluation of two runs' newest records."""
    here, there = ours.status()["runs"][-1], local.status()["runs"][0]
    assert not any(step["reused"] for step in here["steps"])
    for one, other in zip(here["drops"], there["drops"], strict=True):
        assert {key: one[key] for key in _COUNTS} == {key: other[key] for key in _COUNTS}
        assert one["creatives_by_status"] == other["creatives_by_status"]
        month = one["name"]
        for split in SPLITS:
            assert records(ours, month, split) == records(local, month, split)
            expected = statistics(local, month, split)
            found = statistics(ours, month, split)
            assert found.keys() == expected.keys()
            for column, numbers in expected.items():
                assert found[column] == pytest.approx(numbers), column
    assert transform_files(ours) == transform_files(local)
    for one, other in zip(here["evaluation"], there["evaluation"], strict=True):
        assert one["slice"] == other["slice"]
        for name, metric in one["metrics"].items():
            assert metric["value"] == pytest.approx(other["metrics"][name]["value"], rel=1e-3, abs=1e-6), name


def statistics(project: Project, month: str, split: str) -> dict[str, tuple[float, ...]]:
    """What TFDV counted of each column."""
    from tensorflow_data_validation import load_stats_binary

    (file,) = (project.output / "pipeline_root" / f"StatisticsGen-{month}").glob(f"statistics/*/Split-{split}/*")
    (dataset,) = load_stats_binary(str(file)).datasets
    return {
        feature.path.step[0]: (
            dataset.num_examples,
            feature.num_stats.common_stats.num_non_missing,
            feature.string_stats.common_stats.num_non_missing,
            feature.string_stats.unique,
            feature.num_stats.mean,
            feature.num_stats.std_dev,
        )
        for feature in dataset.features
    }


def transform_files(project: Project) -> dict[str, bytes]:
    """The vocabularies of the Transform graph."""
    root = project.output / "pipeline_root" / "Transform" / "transform_graph"
    return {file.name: file.read_bytes() for file in sorted(root.glob("*/transform_fn/assets/*"))}


def test_the_portable_job_service_gives_the_local_results(pushed: Project, tmp_path: Path) -> None:
    project = project_like(pushed, tmp_path / "project")
    with worker_pool(tmp_path) as workers, job_service(tmp_path) as jobs:
        done = project.run(
            *("--beam-runner", "portable", "--beam-option", f"job_endpoint={jobs}"),
            *("--beam-option", f"environment_config={workers}"),
        )
    assert done.code == 0, done.text + (tmp_path / "job_service.log").read_text()[-3000:]
    assert transform_files(project)
    assert_equal(project, pushed)


@pytest.mark.timeout(1800)
def test_a_flink_cluster_that_loses_a_task_manager_gives_the_local_results(one_month: Project, tmp_path: Path) -> None:
    project = project_like(one_month, tmp_path / "project")
    with flink_cluster(tmp_path / "flink") as cluster:
        options = {
            "flink_master": cluster.address,
            "flink_job_server_jar": job_server_jar(),
            "environment_config": cluster.worker_pool,
            "parallelism": 2,
        }
        command = [str(ADCLICK), "run", "--config", str(project.config), "--beam-runner", "flink"]
        command += [part for name, value in options.items() for part in ("--beam-option", f"{name}={value}")]
        with (tmp_path / "run.out").open("w+b") as out:
            run = subprocess.Popen(command, stdout=out, stderr=out, env=environment())
            try:
                wait_until(lambda: cluster.jobs() and any(cluster.busy_slots().values()), "no job has begun", 600)
                wait_until(lambda: some_finished(cluster.jobs()[0]), "the job does not come on", 300)
                (ingestion,) = cluster.jobs()
                assert ingestion["state"] == "RUNNING"
                lost = max(cluster.busy_slots().items(), key=lambda each: each[1])[0]
                cluster.kill_task_manager(lost)
                wait_until(lambda: cluster.failures(ingestion["jid"]), "the loss was not noticed", 300)
                cluster.add_task_manager()
                code = run.wait(1200)
            finally:
                run.kill()
                run.wait(60)
            out.seek(0)
            assert code == 0, out.read().decode()
        assert [job["state"] for job in cluster.jobs()] == ["FINISHED"] * 3, "ingestion, statistics, evaluation"
        assert cluster.jobs()[0]["jid"] == ingestion["jid"]
        assert [bool(cluster.failures(job["jid"])) for job in cluster.jobs()] == [True, False, False]
    assert_equal(project, one_month)


def some_finished(job: dict[str, Any]) -> bool:
    """Whether a part of a job is done, and not all."""
    return 0 < job["tasks"]["finished"] < job["tasks"]["total"]
