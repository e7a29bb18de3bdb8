"""What `adclick compile` writes: parsed by the pipeline-spec protos, and held to what each platform demands."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import components as kfp_components
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils
from tfx.types.artifact import Artifact
from tfx.utils import import_utils

from components.artifacts import Creatives
from components.click_trainer.component import ClickTrainerExecutor
from components.month_inputs import can_take_months, join_months, month_key
from pipeline.beam_runner import LOCAL_BEAM_ARGUMENTS
from pipeline.dag import create_pipeline
from pipeline.drops import Drop
from pipeline.platform import compiler
from pipeline.platform.compiler import as_json, as_yaml, platform_name
from pipeline.platform.settings import TARGETS, Target
from pipeline.platform.submission import beam_arguments, compile_monthly, compile_run
from pipeline.platform.window import Window
from schema.errors import ConfigError
from tests.pipeline.platform.projects import IMAGE, sample_config, window_of
from tests.pipeline.platform.walker import parse_spec

WINDOW = window_of("2026-08", "2026-09", "2026-10", baseline="gs://bucket/output/serving_model/adclick/7")
#: Vertex AI's form of an artifact type's name.
TITLE = re.compile(r"[a-z][a-z0-9_-]{2,20}[.][A-Z][A-Za-z0-9_-]{2,49}")
#: Argo's form of a task's name.
TASK = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return compile_run(sample_config(), "vertex", WINDOW)


def executors(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = job["pipelineSpec"]["deploymentSpec"]["executors"]
    return {label.removesuffix("_executor"): executor["container"] for label, executor in found.items()}


@pytest.mark.parametrize("target", TARGETS)
def test_both_targets_get_the_nodes_of_the_local_run(target: Target, job: dict[str, Any]) -> None:
    local = create_pipeline(
        config=sample_config(),
        drops=WINDOW.drops,
        schema_file=WINDOW.schema_file,
        pipeline_root=WINDOW.pipeline_root,
        push_base=WINDOW.push_base,
        baseline=WINDOW.baseline,
        beam_pipeline_args=LOCAL_BEAM_ARGUMENTS,
    )
    compiled = compile_run(sample_config(), target, WINDOW)

    tasks = compiled["pipelineSpec"]["root"]["dag"]["tasks"]
    assert set(tasks) == {node.id for node in local.components}
    for node in local.components:
        assert set(tasks[node.id].get("dependentTasks", [])) == {upstream.id for upstream in node.upstream_nodes}
        if hasattr(node.executor_spec, "executor_class"):
            _, path, *_ = executors(compiled)[node.id]["args"]
            assert import_utils.import_class_by_path(path) is node.executor_spec.executor_class


def test_vertex_gets_a_pipeline_job_as_json(job: dict[str, Any]) -> None:
    parsed = json_format.Parse(as_json(job), pipeline_spec_pb2.PipelineJob())

    spec, deployment = parse_spec(json_format.MessageToDict(parsed.pipeline_spec))
    assert spec.schema_version == "2.1.0"
    assert parsed.runtime_config.gcs_output_directory == "gs://bucket/output/pipeline_root"
    assert len(deployment.executors) == len(spec.root.dag.tasks) == 20


def test_kubeflow_gets_a_pipeline_spec_as_yaml(job: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(as_yaml(job))

    spec, deployment = parse_spec(yaml.safe_load(file.read_text()))
    # What Kubeflow's server and its compiler to Argo refuse: another schema version, a name of other characters, a
    # component without an executor, a resolver.
    assert spec.schema_version == "2.1.0"
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", spec.pipeline_info.name)
    assert "root" not in spec.components
    for name, task in spec.root.dag.tasks.items():
        assert TASK.fullmatch(name)
        executor = deployment.executors[spec.components[task.component_ref.name].executor_label]
        assert executor.WhichOneof("spec") == "container"
        assert set(task.dependent_tasks) <= set(spec.root.dag.tasks)
        for artifact in task.inputs.artifacts.values():
            produced = artifact.task_output_artifact
            producer = spec.components[spec.root.dag.tasks[produced.producer_task].component_ref.name]
            assert produced.output_artifact_key in producer.output_definitions.artifacts
    # Kubeflow's own SDK reads it as a pipeline.
    assert kfp_components.load_component_from_file(str(file)).pipeline_spec.pipeline_info.name == "adclick"


def test_every_artifact_type_is_one_that_the_container_can_import(job: dict[str, Any]) -> None:
    titles = set()
    for component in job["pipelineSpec"]["components"].values():
        for side in ("inputDefinitions", "outputDefinitions"):
            for declared in component.get(side, {}).get("artifacts", {}).values():
                schema = pipeline_spec_pb2.ArtifactTypeSchema(
                    instance_schema=declared["artifactType"]["instanceSchema"]
                )
                title = yaml.safe_load(schema.instance_schema)["title"]
                assert TITLE.fullmatch(title)
                path = kubeflow_v2_entrypoint_utils._retrieve_class_path(schema)
                assert issubclass(import_utils.import_class_by_path(path), Artifact)
                titles.add(title)
    assert "components.Creatives" in titles and "tfx.Examples" in titles


def test_steps_run_the_containers_entry_point_with_their_environment(job: dict[str, Any]) -> None:
    for container in executors(job).values():
        assert container["image"] == IMAGE
        assert container["command"][:2] == ["python", "-m"]
        assert container["args"].count("{{$}}") == 1
        assert {"name": "TF_USE_LEGACY_KERAS", "value": "0"} in container["env"]


def test_months_are_inputs_of_their_own_and_come_back_together_in_order(job: dict[str, Any]) -> None:
    inputs = job["pipelineSpec"]["root"]["dag"]["tasks"]["ClickTrainer"]["inputs"]["artifacts"]
    producers = {key: source["taskOutputArtifact"]["producerTask"] for key, source in inputs.items()}
    assert producers["earlier_examples__0"] == "AdExampleGen-2026-08"
    assert producers["earlier_examples__1"] == "AdExampleGen-2026-09"
    assert producers["examples"] == "AdExampleGen-2026-10"

    months = [Creatives() for _ in range(12)]
    shuffled = {month_key("creatives", number): [months[number]] for number in (*range(6, 12), *range(6))}
    joined = join_months({**shuffled, "examples": [months[0]]})
    assert joined == {"creatives": months, "examples": [months[0]]}


def test_an_executor_that_cannot_join_months_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_take_months(ClickTrainerExecutor)
    monkeypatch.setattr(compiler, "can_take_months", lambda executor: executor is not ClickTrainerExecutor)
    with pytest.raises(TypeError, match=r"ClickTrainerExecutor.*several months"):
        compile_run(sample_config(), "kubeflow", WINDOW)


def test_caching_is_on_for_every_step_or_off_for_every_step(job: dict[str, Any]) -> None:
    off = compile_run(sample_config({"caching": False}), "vertex", WINDOW)

    tasks = job["pipelineSpec"]["root"]["dag"]["tasks"].values()
    assert all(task["cachingOptions"] == {"enableCache": True} for task in tasks)
    assert not any("cachingOptions" in task for task in off["pipelineSpec"]["root"]["dag"]["tasks"].values())


def test_without_a_pushed_version_there_is_no_baseline() -> None:
    tasks = compile_run(sample_config(), "vertex", window_of("2026-10"))["pipelineSpec"]["root"]["dag"]["tasks"]
    assert "BaselineModel" not in tasks
    assert "baseline_model" not in tasks["Evaluator"]["inputs"]["artifacts"]


def test_resources_go_by_kind_of_step() -> None:
    steps = {
        "default": {"cpu": 2},
        "AdExampleGen": {"cpu": 4, "memory_gb": 16},
        "ClickTrainer": {"cpu": 8, "memory_gb": 30, "gpus": 2, "gpu_type": "NVIDIA_TESLA_T4"},
    }
    found = executors(compile_run(sample_config({"steps": steps}), "vertex", WINDOW))

    assert found["AdExampleGen-2026-08"]["resources"] == found["AdExampleGen-2026-10"]["resources"]
    assert found["AdExampleGen-2026-10"]["resources"] == {"cpuLimit": 4.0, "memoryLimit": 16.0}
    assert found["ClickTrainer"]["resources"]["accelerator"] == {"type": "NVIDIA_TESLA_T4", "count": "2"}
    assert found["Transform"]["resources"] == {"cpuLimit": 2.0}


def test_a_gpu_is_a_resource_on_kubeflow_and_a_type_on_vertex() -> None:
    config = sample_config({"steps": {"ClickTrainer": {"gpus": 1}}})

    on_kubeflow = executors(compile_run(config, "kubeflow", WINDOW))
    assert on_kubeflow["ClickTrainer"]["resources"]["accelerator"] == {"type": "nvidia.com/gpu", "count": "1"}
    with pytest.raises(ConfigError, match="gpus without gpu_type"):
        compile_run(config, "vertex", WINDOW)
    with pytest.raises(ConfigError, match="NVIDIA_TESLA_T4 is no resource of Kubernetes"):
        of_vertex = {"ClickTrainer": {"gpus": 1, "gpu_type": "NVIDIA_TESLA_T4"}}
        compile_run(sample_config({"steps": of_vertex}), "kubeflow", WINDOW)


def test_a_drop_without_a_month_may_need_another_name() -> None:
    def with_drop(name: str) -> Window:
        return replace(WINDOW, drops=[Drop(name, 0, f"gs://bucket/{name}", "hash")])

    steps = {"AdExampleGen": {"cpu": 4}}
    found = executors(compile_run(sample_config({"steps": steps}), "kubeflow", with_drop("clicks")))
    assert found["AdExampleGen-clicks"]["resources"] == {"cpuLimit": 4.0}
    with pytest.raises(ConfigError, match="AdExampleGen-my_clicks: a step's name"):
        compile_run(sample_config(), "kubeflow", with_drop("my_clicks"))


def test_a_step_that_there_is_none_of_is_named() -> None:
    with pytest.raises(ConfigError, match=r"platform\.steps\.Trainer: there is no such step") as refused:
        compile_run(sample_config({"steps": {"Trainer": {"cpu": 2}}}), "vertex", WINDOW)
    assert "ClickTrainer" in refused.value.remedy


def test_an_image_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"platform\.image is not set"):
        compile_run(sample_config({"image": ""}), "vertex", WINDOW)


def test_beams_arguments_reach_every_step_and_are_checked() -> None:
    dataflow = ["--runner=DataflowRunner", "--project=p", "--region=europe-west4", "--temp_location=gs://bucket/tmp"]
    found = executors(compile_run(sample_config({"beam_arguments": dataflow}), "vertex", WINDOW))

    for step in ("AdExampleGen-2026-10", "StatisticsGen-2026-10", "Evaluator"):
        assert found[step]["args"][-4:] == dataflow
    with pytest.raises(ConfigError, match="--project, --region"):
        beam_arguments(sample_config({"beam_arguments": ["--runner=DataflowRunner", "--temp_location=gs://b/t"]}))


def test_the_monthly_pipeline_has_the_month_and_the_window_as_runtime_parameters(tmp_path: Path) -> None:
    schema = tmp_path / "schema.pbtxt"
    schema.write_text('feature { name: "clicked" }')
    config = sample_config(schema_file=str(schema), output=str(tmp_path / "output"))

    job = compile_monthly(config, "kubeflow", months=6)
    spec, _ = parse_spec(yaml.safe_load(as_yaml(job)))

    declared = spec.root.input_definitions.parameters
    assert {name: json_format.MessageToDict(found.default_value) for name, found in declared.items()} == {
        "month": "latest",
        "window": 6.0,
    }
    assert declared["month"].parameter_type == pipeline_spec_pb2.ParameterType.STRING
    assert declared["window"].parameter_type == pipeline_spec_pb2.ParameterType.NUMBER_INTEGER
    (task,) = spec.root.dag.tasks.values()
    assert task.inputs.parameters["month"].component_input_parameter == "month"
    assert not task.caching_options.enable_cache
    # The step reads the schema as it was when this was compiled.
    given = json.loads(task.inputs.parameters["config"].runtime_value.constant.string_value)
    assert Path(given["schema_file"]).read_text() == schema.read_text()
    assert given["schema_file"] != str(schema)


@pytest.mark.parametrize(("name", "expected"), [("adclick", "adclick"), ("Ad_Click", "ad-click"), ("_", "adclick")])
def test_names_take_the_form_that_both_platforms_allow(name: str, expected: str) -> None:
    assert platform_name(name) == expected
