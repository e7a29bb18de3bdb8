"""Beam arguments for each engine, checked by Beam's own parser and validator."""

from __future__ import annotations

from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SparkRunnerOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.utils.subprocess_server import JavaJarServer

from adclick.pipeline.config.settings import Config
from adclick.pipeline.runs.beam_runner import (
    LOCAL_BEAM_ARGUMENTS,
    WORKER_POOL,
    BeamRunner,
    beam_arguments,
    fetch_job_server,
)
from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import parse_feature_table

FEATURES = parse_feature_table('{"clicked": {"role": "label"}, "time": {"role": "timestamp"}}')
CLOUD = (
    "project=agency",
    "region=europe-west1",
    "temp_location=gs://agency/temp",
    "sdk_container_image=host/adclick:1",
)


def config(root: str = "gs://agency/drops", pipeline_root: str = "gs://agency/root") -> Config:
    return Config.model_validate({"data": {"root": root}, "pipeline_root": pipeline_root, "features": FEATURES})


def options(runner: BeamRunner, *given: str) -> PipelineOptions:
    return PipelineOptions(beam_arguments(runner, given, config()))


def test_a_local_run_needs_no_option() -> None:
    assert beam_arguments(BeamRunner.DIRECT, (), config("/drops", "/root")) == list(LOCAL_BEAM_ARGUMENTS)
    assert "--direct_num_workers=2" in beam_arguments(BeamRunner.DIRECT, ("direct_num_workers=2",), config())


def test_flink_gets_one_jar_and_workers_from_a_pool() -> None:
    found = options(BeamRunner.FLINK, "flink_master=jobs:8081", "parallelism=4", "--flink_version=1.19")
    assert found.view_as(StandardOptions).runner == "FlinkRunner"
    flink = found.view_as(FlinkRunnerOptions)
    assert (flink.flink_master, flink.flink_version, flink.parallelism) == ("jobs:8081", "1.19", 4)
    assert flink.flink_submit_uber_jar
    portable = found.view_as(PortableOptions)
    assert (portable.environment_type, portable.environment_config) == ("EXTERNAL", WORKER_POOL)


@pytest.mark.parametrize(
    "runner, given",
    [
        (BeamRunner.FLINK, "flink_master=jobs:8081"),
        (BeamRunner.SPARK, "spark_master_url=spark://spark:7077"),
        (BeamRunner.PORTABLE, "job_endpoint=jobs:8099"),
    ],
)
def test_another_environment_replaces_the_worker_pool(runner: BeamRunner, given: str) -> None:
    portable = options(runner, given, "environment_config=pool:1").view_as(PortableOptions)
    assert (portable.environment_type, portable.environment_config) == ("EXTERNAL", "pool:1")
    portable = options(runner, given, "environment_type=DOCKER", "sdk_container_image=host/adclick:1").view_as(
        PortableOptions
    )
    assert (portable.environment_type, portable.environment_config) == ("DOCKER", None)


def test_spark_takes_its_own_and_unknown_options() -> None:
    found = options(BeamRunner.SPARK, "spark_master_url=spark://spark:7077", "bundle_size=100")
    assert found.view_as(SparkRunnerOptions).spark_master_url == "spark://spark:7077"


def test_dataflow_reads_what_it_is_given() -> None:
    found = options(BeamRunner.DATAFLOW, *CLOUD, "max_num_workers=8", "labels=team=ads", "labels=stage=test")
    cloud = found.view_as(GoogleCloudOptions)
    assert found.view_as(StandardOptions).runner == "DataflowRunner"
    assert (cloud.project, cloud.region, cloud.temp_location) == ("agency", "europe-west1", "gs://agency/temp")
    assert cloud.labels == ["team=ads", "stage=test"]
    workers = found.view_as(WorkerOptions)
    assert (workers.max_num_workers, workers.sdk_container_image) == (8, "host/adclick:1")


@pytest.mark.parametrize("missing", ["project", "region", "temp_location", "sdk_container_image"])
def test_what_dataflow_lacks_is_named(missing: str) -> None:
    given = [option for option in CLOUD if not option.startswith(f"{missing}=")]
    with pytest.raises(ConfigError, match=f"--beam-option {missing}="):
        beam_arguments(BeamRunner.DATAFLOW, given, config())


@pytest.mark.parametrize(
    "runner, named", [("flink", "flink_master"), ("spark", "spark_master_url"), ("portable", "job_endpoint")]
)
def test_the_address_of_an_engine_is_asked_for(runner: str, named: str) -> None:
    with pytest.raises(ConfigError, match=f"--beam-runner {runner} lacks options:\n  --beam-option {named}="):
        beam_arguments(BeamRunner(runner), (), config())


@pytest.mark.parametrize(
    "option, said",
    [
        ("temp_location=/tmp/here", "temp_location"),
        ("project=12345", "Project ID"),
        ("max_num_workers=many", "max_num_workers"),
        ("num_workers=-1", "num_workers"),
        ("machine_typ=n2-standard-4", "did you mean machine_type"),
    ],
)
def test_what_beam_does_not_take_is_refused(option: str, said: str) -> None:
    name = option.partition("=")[0]
    given = [each for each in CLOUD if not each.startswith(f"{name}=")] + [option]
    with pytest.raises(ConfigError) as refused:
        beam_arguments(BeamRunner.DATAFLOW, given, config())
    assert said.lower() in str(refused.value).lower()


def test_dataflow_does_not_reach_this_machine(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.root is /drops"):
        beam_arguments(BeamRunner.DATAFLOW, CLOUD, config("/drops"))


@pytest.mark.parametrize(
    ("runner", "given", "said"),
    [
        (BeamRunner.SPARK, "spark_job_server_jar=no/such.jar", "no/such.jar"),
        (BeamRunner.SPARK, "spark_job_server_jar=http://127.0.0.1:1/job-server.jar", "127.0.0.1:1"),
        (BeamRunner.FLINK, "flink_job_server_jar=no/such.jar", "no/such.jar"),
        (BeamRunner.FLINK, "parallelism=1", "the cluster cannot be asked"),
    ],
)
def test_a_job_server_that_cannot_be_had_is_known_before_anything_runs(
    runner: BeamRunner, given: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JavaJarServer, "JAR_CACHE", str(tmp_path))
    address = "spark_master_url=spark://127.0.0.1:1" if runner is BeamRunner.SPARK else "flink_master=127.0.0.1:1"
    with pytest.raises(ConfigError, match=f"{runner}_job_server_jar=FILE") as refused:
        fetch_job_server(runner, beam_arguments(runner, (address, given), config()))
    assert said in refused.value.message


def test_a_job_server_that_is_there_is_taken(tmp_path: Path) -> None:
    (tmp_path / "job-server.jar").touch()
    given = (
        "spark_master_url=spark://127.0.0.1:1",
        "spark_submit_uber_jar",
        "spark_rest_url=http://127.0.0.1:1",
        f"spark_job_server_jar={tmp_path}/job-server.jar",
    )
    fetch_job_server(BeamRunner.SPARK, beam_arguments(BeamRunner.SPARK, given, config()))
    fetch_job_server(BeamRunner.DIRECT, LOCAL_BEAM_ARGUMENTS)
