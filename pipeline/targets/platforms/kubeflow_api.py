"""Submits compiled pipelines to Kubeflow Pipelines, by its v2beta1 REST API.

The bearer token is taken from ADCLICK_KUBEFLOW_TOKEN, or from the file that KF_PIPELINES_SA_TOKEN_PATH names, which
Kubernetes mounts into a pod; without either, requests carry none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kfp_server_api
import urllib3.exceptions

from adclick.pipeline.config.platform import KubeflowSettings
from adclick.pipeline.targets.schedule import Schedule
from adclick.schema.errors import ConfigError, SubmissionRefused

TOKEN_VARIABLE = "ADCLICK_KUBEFLOW_TOKEN"
TOKEN_FILE_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"
_DEFAULT_TOKEN_FILE = "/var/run/secrets/kubeflow/pipelines/token"
_TIMEOUT_SECONDS = 60.0


def submit(
    job: dict[str, Any],
    settings: KubeflowSettings,
    display_name: str,
    platform_spec: Mapping[str, Any] | None = None,
) -> str:
    """Starts a run.

    Args:
        job: The compiled PipelineJob.
        settings: Where and as whom.
        display_name: How Kubeflow lists it.
        platform_spec: What goes beside the pipeline spec.

    Returns:
        The run's id.

    Raises:
        ConfigError: The host is not set, or the token cannot be read.
        SubmissionRefused: Kubeflow refused it or could not be reached.
    """
    with _calling(settings, "create runs") as client:
        made = kfp_server_api.RunServiceApi(client).run_service_create_run(
            kfp_server_api.V2beta1Run(
                display_name=f"{display_name} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
                experiment_id=_experiment(client, settings),
                pipeline_spec=_documents(job, platform_spec),
                runtime_config=_runtime_config(job),
                service_account=settings.service_account or None,
            ),
            _request_timeout=_TIMEOUT_SECONDS,
        )
    return str(made.run_id)


def create_schedule(
    job: dict[str, Any],
    settings: KubeflowSettings,
    schedule: Schedule,
    platform_spec: Mapping[str, Any] | None = None,
) -> str:
    """Schedules a pipeline as a recurring run; months missed while the schedule was off are not made up for.

    Args:
        job: The compiled PipelineJob.
        settings: Where and as whom.
        schedule: When.
        platform_spec: What goes beside the pipeline spec.

    Returns:
        The recurring run's id.

    Raises:
        ConfigError: The host is not set, the token cannot be read, or there is a schedule of that name.
        SubmissionRefused: Kubeflow refused it or could not be reached.
    """
    with _calling(settings, "create recurring runs") as client:
        recurring_runs = kfp_server_api.RecurringRunServiceApi(client)
        experiment = _experiment(client, settings)
        with _refusals(settings, "list recurring runs"):
            found = recurring_runs.recurring_run_service_list_recurring_runs(
                experiment_id=experiment, filter=_named(schedule.name), _request_timeout=_TIMEOUT_SECONDS
            )
        for existing in found.recurring_runs or []:
            raise ConfigError(
                f"there is a recurring run {schedule.name!r} already: {existing.recurring_run_id}",
                "Both would run. Delete that one, or give another --name.",
            )
        made = recurring_runs.recurring_run_service_create_recurring_run(
            kfp_server_api.V2beta1RecurringRun(
                display_name=schedule.name,
                experiment_id=experiment,
                pipeline_spec=_documents(job, platform_spec),
                runtime_config=_runtime_config(job),
                service_account=settings.service_account or None,
                max_concurrency="1",
                no_catchup=True,
                mode=kfp_server_api.RecurringRunMode.ENABLE,
                trigger=kfp_server_api.V2beta1Trigger(
                    # Kubeflow's cron has a field of seconds in front.
                    cron_schedule=kfp_server_api.V2beta1CronSchedule(cron=f"0 {schedule.cron}")
                ),
            ),
            _request_timeout=_TIMEOUT_SECONDS,
        )
    return str(made.recurring_run_id)


def _documents(job: dict[str, Any], platform_spec: Mapping[str, Any] | None) -> dict[str, Any]:
    """A run's specs as the API takes them: both, each under its name, or the pipeline spec alone."""
    spec: dict[str, Any] = job["pipelineSpec"]
    return {"pipeline_spec": spec, "platform_spec": dict(platform_spec)} if platform_spec else spec


def _experiment(client: kfp_server_api.ApiClient, settings: KubeflowSettings) -> str:
    experiments = kfp_server_api.ExperimentServiceApi(client)
    with _refusals(settings, "list experiments"):
        found = experiments.experiment_service_list_experiments(
            filter=_named(settings.experiment), namespace=settings.namespace or None, _request_timeout=_TIMEOUT_SECONDS
        )
    for existing in found.experiments or []:
        return str(existing.experiment_id)
    with _refusals(settings, "create experiments"):
        made = experiments.experiment_service_create_experiment(
            kfp_server_api.V2beta1Experiment(display_name=settings.experiment, namespace=settings.namespace or None),
            _request_timeout=_TIMEOUT_SECONDS,
        )
    return str(made.experiment_id)


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _runtime_config(job: dict[str, Any]) -> kfp_server_api.V2beta1RuntimeConfig:
    runtime = job["runtimeConfig"]
    return kfp_server_api.V2beta1RuntimeConfig(
        pipeline_root=runtime["gcsOutputDirectory"], parameters=runtime.get("parameterValues", {})
    )


def _token() -> str | None:
    if token := os.environ.get(TOKEN_VARIABLE):
        return token
    named = os.environ.get(TOKEN_FILE_VARIABLE)
    file = Path(named or _DEFAULT_TOKEN_FILE)
    if named is None and not file.exists():
        return None
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{file}: the token cannot be read: {error}", f"Correct {TOKEN_FILE_VARIABLE}.") from None


@contextmanager
def _calling(settings: KubeflowSettings, what: str) -> Iterator[kfp_server_api.ApiClient]:
    """Opens a client for calls that need the right to do `what`."""
    if not settings.host:
        raise ConfigError(
            "platform.kubeflow.host is not set",
            "Give the API's address, such as https://kubeflow.example.com/pipeline, or "
            "http://ml-pipeline.kubeflow.svc.cluster.local:8888 inside the cluster.",
        )
    connection = kfp_server_api.Configuration(host=settings.host.rstrip("/"))
    if token := _token():
        connection.api_key["authorization"] = token
        connection.api_key_prefix["authorization"] = "Bearer"
    client = kfp_server_api.ApiClient(connection)
    try:
        with _refusals(settings, what):
            yield client
    finally:
        client.close()


@contextmanager
def _refusals(settings: KubeflowSettings, what: str) -> Iterator[None]:
    """Turns what a call may raise into errors that say where it went and which right is missing."""
    where = f"{settings.host}, namespace {settings.namespace}" if settings.namespace else settings.host
    try:
        yield
    except kfp_server_api.ApiException as error:
        if not error.status:
            raise _unreachable(where, str(error.reason)) from error
        raise SubmissionRefused(
            f"Kubeflow refused ({where}): {error.status} {_message(error)}", _remedy(error.status, settings, what)
        ) from error
    except urllib3.exceptions.HTTPError as error:
        raise _unreachable(where, str(error)) from error


def _unreachable(where: str, reason: str) -> SubmissionRefused:
    return SubmissionRefused(
        f"Kubeflow cannot be reached ({where}): {reason}", "Check the network and platform.kubeflow.host."
    )


def _message(error: kfp_server_api.ApiException) -> str:
    try:
        answer = json.loads(error.body)
        return str(answer.get("message") or answer.get("error") or error.reason)
    except (TypeError, ValueError, AttributeError):
        return str(error.body or error.reason)[:500]


def _remedy(status: int, settings: KubeflowSettings, what: str) -> str:
    namespace = settings.namespace or "the API server's"
    if status == 401:
        return f"Give a valid token in {TOKEN_VARIABLE}, or as a file that {TOKEN_FILE_VARIABLE} names."
    if status == 403:
        return f"Let the caller {what} (resource of pipelines.kubeflow.org) in namespace {namespace}."
    if status == 404:
        return "Check platform.kubeflow.host, with its path, and platform.kubeflow.namespace: the API must be v2beta1."
    if status == 429:
        return f"A quota of namespace {namespace} is used up: wait, or ask for a higher one."
    if status >= 500:
        return "Kubeflow itself failed; look at its API server, then submit again."
    return "Correct what it names, then submit again."
