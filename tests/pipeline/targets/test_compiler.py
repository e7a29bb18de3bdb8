"""What `adclick compile` writes: parsed by the pipeline-spec protos, and held to what each platform demands."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import components as kfp_components
from kfp.kubernetes import kubernetes_executor_config_pb2 as executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2
from pydantic import ValidationError
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils
from tfx.types.artifact import Artifact
from tfx.utils import import_utils

from adclick.components.artifacts import Creatives
from adclick.components.copy_detector.component import CopyDetectorExecutor
from adclick.components.month_inputs import can_take_months, join_months, month_key
from adclick.pipeline.config.platform import StepSettings
from adclick.pipeline.config.target import TARGETS, Target
from adclick.pipeline.dag import create_pipeline
from adclick.pipeline.drops import Drop
from adclick.pipeline.runs.beam_runner import LOCAL_BEAM_ARGUMENTS
from adclick.pipeline.runs.record import write_record
from adclick.pipeline.targets import compiler
from adclick.pipeline.targets.compiled_job import CompiledJob, as_json, as_yaml
from adclick.pipeline.targets.compiler import platform_name
from adclick.pipeline.targets.recorder import make_recorder, submitted_record
from adclick.pipeline.targets.step import Interface
from adclick.pipeline.targets.submission import beam_arguments, compile_monthly, compile_run
from adclick.pipeline.targets.window import Window
from adclick.schema.errors import ConfigError
from tests.pipeline.targets.projects import IMAGE, sample_config, window_of
from tests.pipeline.targets.walker import parse_spec

MONTHS = ("2026-08", "2026-09", "2026-10")
WINDOW = window_of(*MONTHS, baseline="gs://bucket/output/serving_model/adclick/7")
#: Vertex AI's form of an artifact type's name.
TITLE = re.compile(r"[a-z][a-z0-9_-]{2,20}[.][A-Z][A-Za-z0-9_-]{2,49}")
#: Argo's form of a task's name.
TASK = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return compile_run(sample_config(), "vertex", WINDOW).job


def executors(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By task, its container."""
    spec = job["pipelineSpec"]
    labels = {
        name: spec["components"][task["componentRef"]["name"]]["executorLabel"]
        for name, task in spec["root"]["dag"]["tasks"].items()
    }
    return {name: spec["deploymentSpec"]["executors"][label]["container"] for name, label in labels.items()}


@pytest.mark.parametrize("target", TARGETS)
def test_both_targets_get_the_nodes_of_the_local_run_a_recorder_and_a_gate_for_the_model(
    target: Target, job: dict[str, Any]
) -> None:
    local = create_pipeline(
        config=sample_config(),
        drops=WINDOW.drops,
        schema_file=WINDOW.schema_file,
        pipeline_root=WINDOW.pipeline_root,
        push_base=WINDOW.push_base,
        baseline=WINDOW.baseline,
        beam_pipeline_args=LOCAL_BEAM_ARGUMENTS,
        gate_model=True,
        make_recorder=partial(make_recorder, submitted_record(sample_config(), WINDOW)),
    )
    compiled = compile_run(sample_config(), target, WINDOW).job

    tasks = compiled["pipelineSpec"]["root"]["dag"]["tasks"]
    assert set(tasks) == {node.id for node in local.components}
    for node in local.components:
        waits_for = {upstream.id for upstream in node.upstream_nodes}
        if node.id in ("Transform", "ClickTrainer"):
            # These find the months by a step that had read them.
            waits_for -= {f"{step}-{month}" for step in ("AdExampleGen", "StatisticsGen") for month in MONTHS[:-1]}
            waits_for |= {"DriftDetector" if node.id == "Transform" else "CopyDetector"}
        assert set(tasks[node.id].get("dependentTasks", [])) == waits_for
        if hasattr(node.executor_spec, "executor_class"):
            _, path, *_ = executors(compiled)[node.id]["args"]
            assert import_utils.import_class_by_path(path) is node.executor_spec.executor_class


def test_vertex_gets_a_pipeline_job_as_json(job: dict[str, Any]) -> None:
    parsed = json_format.Parse(as_json(job), pipeline_spec_pb2.PipelineJob())

    spec, deployment = parse_spec(json_format.MessageToDict(parsed.pipeline_spec))
    assert spec.schema_version == "2.1.0"
    assert parsed.runtime_config.gcs_output_directory == "gs://bucket/output/pipeline_root"
    assert len(spec.root.dag.tasks) == 23
    # Steps that differ in their month alone are defined once.
    assert set(deployment.executors) == {f"{name}_executor" for name in spec.components}
    kinds = {compiler.step_kind(name) for name in spec.root.dag.tasks}
    # The newest month's gate takes drift, too.
    assert set(spec.components) == {*kinds, "DataGate-2"}


def test_kubeflow_gets_a_pipeline_spec_as_yaml(job: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(as_yaml(job, {}))

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
    assert "adclick.Creatives" in titles and "tfx.Examples" in titles


def test_steps_run_the_containers_entry_point_with_their_environment(job: dict[str, Any]) -> None:
    for container in executors(job).values():
        assert container["image"] == IMAGE
        assert container["command"] == ["python", "-m", "adclick.pipeline.targets.step"]
        assert container["args"].count("{{$}}") == 1
        assert {"name": "TF_USE_LEGACY_KERAS", "value": "0"} in container["env"]


def test_steps_know_the_types_of_what_they_take_and_give(job: dict[str, Any]) -> None:
    arguments = executors(job)["Evaluator"]["args"]
    interface = Interface.parse(arguments[arguments.index("--interface") + 1])
    assert interface.inputs == {"examples": "tfx.Examples", "model": "tfx.Model", "baseline_model": "tfx.Model"}
    assert interface.outputs == {"blessing": "tfx.ModelBlessing", "evaluation": "tfx.ModelEvaluation"}
    arguments = executors(job)["AdExampleGen-2026-10"]["args"]
    assert set(Interface.parse(arguments[arguments.index("--interface") + 1]).integers) == {"span", "version"}


def test_contents_lie_apart_on_kubeflow_which_copies_inputs(job: dict[str, Any]) -> None:
    on_kubeflow = executors(compile_run(sample_config(), "kubeflow", WINDOW).job)
    assert all("--contents-apart" in container["args"] for container in on_kubeflow.values())
    assert not any("--contents-apart" in container["args"] for container in executors(job).values())


def settings(compiled: CompiledJob, task: str) -> dict[str, str]:
    """The parameters that a step reads from its file."""
    arguments = executors(compiled.job)[task]["args"]
    return dict(json.loads(compiled.files[arguments[arguments.index("--settings") + 1]]))


def test_settings_stand_in_a_file_for_each_kind_of_step() -> None:
    compiled = compile_run(sample_config(), "kubeflow", WINDOW)

    ingestion = settings(compiled, "AdExampleGen-2026-08")
    assert ingestion["features"] == sample_config().features.model_dump_json()
    assert set(ingestion) == {"csv", "features", "ingestion", "split"}
    assert all(address.startswith("gs://bucket/output/parameters/") for address in compiled.files)
    # What differs by month is a parameter still, and in no interface twice.
    spec = compiled.job["pipelineSpec"]
    given = spec["root"]["dag"]["tasks"]["AdExampleGen-2026-08"]["inputs"]["parameters"]
    assert set(given) == {"drop_uri", "fingerprint", "span", "version"}
    assert set(spec["components"]["AdExampleGen"]["inputDefinitions"]["parameters"]) == set(given)


def months(count: int) -> Window:
    return window_of(*[f"{2022 + number // 12}-{number % 12 + 1:02}" for number in range(count)])


def test_sixty_months_fit_and_grow_by_their_tasks_alone(tmp_path: Path) -> None:
    config = sample_config(output=str(tmp_path))
    sizes = [len(json.dumps(compile_run(config, "kubeflow", months(count)).job["pipelineSpec"])) for count in (36, 60)]
    assert sizes[1] < 230_000
    assert sizes[1] - sizes[0] < 90_000


def test_a_window_whose_workflow_argo_would_refuse_is_refused(tmp_path: Path) -> None:
    config = sample_config(output=str(tmp_path))
    assert compile_run(config, "vertex", months(72)).steps == 298
    with pytest.raises(ConfigError, match=r"a window of 72 months is too long.*and 1,048,576 are allowed") as refused:
        compile_run(config, "kubeflow", months(72))
    assert "Some 6" in refused.value.remedy and "MAX_WORKFLOW_SIZE" in refused.value.remedy

    # With the months of an earlier run, whose steps are reused, it is not.
    earlier = submitted_record(config, months(60)).model_copy(update={"platform": "run-1"})
    write_record(config.output, earlier)
    with pytest.raises(ConfigError):
        compile_run(config, "kubeflow", months(72))
    write_record(config.output, earlier.model_copy(update={"finished": earlier.started, "state": "pushed"}))
    assert compile_run(config, "kubeflow", months(72)).steps == 298


def test_what_failed_is_tried_again_but_for_gates(job: dict[str, Any]) -> None:
    tasks = job["pipelineSpec"]["root"]["dag"]["tasks"]
    assert tasks["ClickTrainer"]["retryPolicy"]["maxRetryCount"] == compiler.RETRIES
    assert "retryPolicy" not in tasks["ModelGate"]
    assert "retryPolicy" not in tasks["DataGate-2026-10"]


def test_months_are_inputs_of_their_own_and_come_back_together_in_order(job: dict[str, Any]) -> None:
    inputs = job["pipelineSpec"]["root"]["dag"]["tasks"]["CopyDetector"]["inputs"]["artifacts"]
    producers = {key: source["taskOutputArtifact"]["producerTask"] for key, source in inputs.items()}
    assert producers["earlier_examples__0"] == "AdExampleGen-2026-08"
    assert producers["earlier_examples__1"] == "AdExampleGen-2026-09"
    assert producers["examples"] == "AdExampleGen-2026-10"

    months = [Creatives() for _ in range(12)]
    shuffled = {month_key("creatives", number): [months[number]] for number in (*range(6, 12), *range(6))}
    joined = join_months({**shuffled, "examples": [months[0]]})
    assert joined == {"creatives": months, "examples": [months[0]]}


def test_an_executor_that_cannot_join_months_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_take_months(CopyDetectorExecutor)
    monkeypatch.setattr(compiler, "can_take_months", lambda executor: executor is not CopyDetectorExecutor)
    with pytest.raises(TypeError, match=r"CopyDetectorExecutor.*several months"):
        compile_run(sample_config(), "kubeflow", WINDOW)


def test_caching_is_on_for_every_step_or_off_for_every_step(job: dict[str, Any]) -> None:
    off = compile_run(sample_config({"caching": False}), "vertex", WINDOW).job

    tasks = job["pipelineSpec"]["root"]["dag"]["tasks"].values()
    assert all(task["cachingOptions"] == {"enableCache": True} for task in tasks)
    assert not any("cachingOptions" in task for task in off["pipelineSpec"]["root"]["dag"]["tasks"].values())


def test_without_a_pushed_version_there_is_no_baseline() -> None:
    tasks = compile_run(sample_config(), "vertex", window_of("2026-10")).job["pipelineSpec"]["root"]["dag"]["tasks"]
    assert "BaselineModel" not in tasks
    assert "baseline_model" not in tasks["Evaluator"]["inputs"]["artifacts"]


def test_resources_go_by_kind_of_step() -> None:
    steps = {
        "default": {"cpu": 2},
        "AdExampleGen": {"cpu": 4, "memory_gb": 16},
        "ClickTrainer": {"cpu": 8, "memory_gb": 30, "gpus": 2, "gpu_type": "NVIDIA_TESLA_T4"},
    }
    found = executors(compile_run(sample_config({"steps": steps}), "vertex", WINDOW).job)

    assert found["AdExampleGen-2026-08"]["resources"] == found["AdExampleGen-2026-10"]["resources"]
    assert found["AdExampleGen-2026-10"]["resources"] == {"cpuLimit": 4.0, "memoryLimit": 16.0}
    assert found["ClickTrainer"]["resources"]["accelerator"] == {"type": "NVIDIA_TESLA_T4", "count": "2"}
    assert found["Transform"]["resources"] == {"cpuLimit": 2.0}


GIVEN = {
    "default": {
        "memory_gb": 4,
        "environment": {"PROXY": "http://proxy:3128"},
        "labels": {"access-ml-pipeline": "true"},
        "secrets": [{"name": "google", "mount": "/etc/google"}],
    },
    "ClickTrainer": {
        "cpu": 8,
        "environment": {"PROXY": "none", "OMP_NUM_THREADS": "8"},
        "labels": {"team": "ads"},
        "secrets": [{"name": "tracking", "environment": {"TRACKING_TOKEN": "token"}}],
        "volumes": [{"claim": "scratch", "mount": "/scratch"}, {"config_map": "proxies", "mount": "/etc/proxies"}],
        "node_selector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    },
}


def test_kubeflows_steps_are_given_what_platform_steps_says() -> None:
    compiled = compile_run(sample_config({"steps": GIVEN}), "kubeflow", WINDOW)

    spec, platform = yaml.safe_load_all(as_yaml(compiled.job, compiled.platform_spec))
    parsed = json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    given = parsed.platforms["kubernetes"].deployment_spec.executors
    assert set(given) == set(spec["deploymentSpec"]["executors"])
    configs = {
        label: json_format.ParseDict(json_format.MessageToDict(config), executor_config_pb2.KubernetesExecutorConfig())
        for label, config in given.items()
    }
    trainer, others = configs["ClickTrainer_executor"], configs["Evaluator_executor"]
    assert json_format.MessageToDict(others) == {
        "podMetadata": {"labels": {"access-ml-pipeline": "true"}},
        "secretAsVolume": [{"secretName": "google", "mountPath": "/etc/google"}],
    }
    assert dict(trainer.pod_metadata.labels) == {"access-ml-pipeline": "true", "team": "ads"}
    assert [secret.secret_name for secret in trainer.secret_as_volume] == ["google"]
    (secret,) = trainer.secret_as_env
    assert (secret.secret_name, secret.key_to_env[0].secret_key, secret.key_to_env[0].env_var) == (
        "tracking",
        "token",
        "TRACKING_TOKEN",
    )
    assert (trainer.pvc_mount[0].constant, trainer.pvc_mount[0].mount_path) == ("scratch", "/scratch")
    assert trainer.config_map_as_volume[0].config_map_name == "proxies"
    assert dict(trainer.node_selector.labels) == {"disk": "ssd"}
    assert (trainer.tolerations[0].key, trainer.tolerations[0].operator) == ("gpu", "Exists")


@pytest.mark.parametrize("target", TARGETS)
def test_a_step_has_what_default_says_where_it_says_nothing_itself(target: Target) -> None:
    shared = ("cpu", "memory_gb", "environment")
    steps = {name: {key: step[key] for key in shared if key in step} for name, step in GIVEN.items()}
    found = executors(compile_run(sample_config({"steps": steps}), target, WINDOW).job)

    def variables(step: str) -> dict[str, str]:
        return {variable["name"]: variable["value"] for variable in found[step]["env"]}

    assert found["ClickTrainer"]["resources"] == {"cpuLimit": 8.0, "memoryLimit": 4.0}
    assert variables("ClickTrainer") == {"TF_USE_LEGACY_KERAS": "0", "PROXY": "none", "OMP_NUM_THREADS": "8"}
    assert variables("Transform") == {"TF_USE_LEGACY_KERAS": "0", "PROXY": "http://proxy:3128"}


@pytest.mark.parametrize("monthly", [False, True])
def test_vertex_refuses_by_name_what_it_cannot_give(monthly: bool) -> None:
    config = sample_config({"steps": GIVEN})
    with pytest.raises(ConfigError, match=r"platform\.steps\.default: Vertex AI gives its steps no secrets, labels\n"):
        if monthly:
            compile_monthly(config, "vertex")
        else:
            compile_run(config, "vertex", WINDOW)


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ({"environment": {"1A": "x"}}, "should match pattern"),
        ({"secrets": [{"name": "s"}]}, "give environment, mount or both"),
        ({"volumes": [{"mount": "/data"}]}, "give either claim or config_map"),
        ({"volumes": [{"claim": "c", "mount": "data"}]}, "should match pattern"),
        ({"secrets": [{"name": "a.b", "mount": "/a"}]}, "a.b cannot be mounted"),
        ({"secrets": [{"name": "a", "mount": "/a"}, {"name": "b", "mount": "/a"}]}, "mount /a is given twice"),
        ({"environment": {"A": "x"}, "secrets": [{"name": "s", "environment": {"A": "k"}}]}, "variable A is given"),
        ({"labels": {"team": "a b"}}, "should match pattern"),
        ({"tolerations": [{"value": "x"}]}, "must have operator Exists"),
    ],
)
def test_what_kubernetes_would_refuse_of_a_pod_is_refused_in_the_config(step: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        StepSettings.model_validate(step)


def test_what_a_step_and_default_cannot_have_both_is_named() -> None:
    mount = {"secrets": [{"name": "other", "mount": "/etc/google"}]}
    with pytest.raises(ConfigError, match=r"steps\.ModelPusher: the mount /etc/google is given twice.*default"):
        compile_run(sample_config({"steps": {**GIVEN, "ModelPusher": mount}}), "kubeflow", WINDOW)
    keras = {"default": {"environment": {"TF_USE_LEGACY_KERAS": "1"}}}
    with pytest.raises(ConfigError, match="TF_USE_LEGACY_KERAS is set by adclick"):
        compile_run(sample_config({"steps": keras}), "kubeflow", WINDOW)


def test_a_gpu_is_a_resource_on_kubeflow_and_a_type_on_vertex() -> None:
    config = sample_config({"steps": {"ClickTrainer": {"gpus": 1}}})

    on_kubeflow = executors(compile_run(config, "kubeflow", WINDOW).job)
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
    found = executors(compile_run(sample_config({"steps": steps}), "kubeflow", with_drop("clicks")).job)
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
    found = executors(compile_run(sample_config({"beam_arguments": dataflow}), "vertex", WINDOW).job)

    for step in ("AdExampleGen-2026-10", "StatisticsGen-2026-10", "Evaluator"):
        assert found[step]["args"][-4:] == dataflow
    with pytest.raises(ConfigError, match="--project, --region"):
        beam_arguments(sample_config({"beam_arguments": ["--runner=DataflowRunner", "--temp_location=gs://b/t"]}))


def test_the_monthly_pipeline_has_the_month_and_the_window_as_runtime_parameters(tmp_path: Path) -> None:
    schema = tmp_path / "schema.pbtxt"
    schema.write_text('feature { name: "clicked" }')
    config = sample_config(schema_file=str(schema), output=str(tmp_path / "output"))

    compiled = compile_monthly(config, "kubeflow", months=6)
    job = compiled.job
    spec, _ = parse_spec(yaml.safe_load(as_yaml(job, {})))

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
    assert not task.HasField("retry_policy"), "it might submit twice"
    (content,) = compiled.files.values()
    assert set(task.inputs.parameters) == {"month", "window", "target"}
    given = json.loads(json.loads(content)["config"])
    assert Path(given["schema_file"]).read_text() == schema.read_text()
    assert given["schema_file"] != str(schema)


@pytest.mark.parametrize(("name", "expected"), [("adclick", "adclick"), ("Ad_Click", "ad-click"), ("_", "adclick")])
def test_names_take_the_form_that_both_platforms_allow(name: str, expected: str) -> None:
    assert platform_name(name) == expected
