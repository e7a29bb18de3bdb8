"""Submits compiled pipelines to Vertex AI Pipelines, by its REST API and the application-default credentials."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import google.auth
import requests
from google.api_core import exceptions as api_errors
from google.api_core.client_options import ClientOptions
from google.auth import exceptions as auth_errors
from google.cloud.aiplatform_v1.services.pipeline_service import PipelineServiceClient
from google.cloud.aiplatform_v1.services.schedule_service import ScheduleServiceClient
from google.cloud.aiplatform_v1.types import CreatePipelineJobRequest, PipelineJob
from google.cloud.aiplatform_v1.types import Schedule as VertexSchedule

from adclick.pipeline.config.platform import VertexSettings
from adclick.pipeline.targets.schedule import Schedule
from adclick.schema.errors import ConfigError, SubmissionRefused

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_TIMEOUT_SECONDS = 60.0


def submit(job: dict[str, Any], settings: VertexSettings, display_name: str) -> str:
    """Starts a run.

    Args:
        job: The compiled PipelineJob.
        settings: Where and as whom.
        display_name: How Vertex AI lists it.

    Returns:
        The job's resource name.

    Raises:
        ConfigError: The project or the region is not set.
        SubmissionRefused: Vertex AI refused it or could not be reached.
    """
    name = job["pipelineSpec"]["pipelineInfo"]["name"]
    job_id = f"{name}-{datetime.now(UTC):%Y%m%d%H%M%S}"
    with _calling(settings, "aiplatform.pipelineJobs.create"):
        client = PipelineServiceClient(**_connection(settings))
        made = client.create_pipeline_job(
            parent=_parent(settings),
            pipeline_job=_pipeline_job(job, settings, display_name),
            pipeline_job_id=job_id,
            timeout=_TIMEOUT_SECONDS,
        )
    return str(made.name)


def create_schedule(job: dict[str, Any], settings: VertexSettings, schedule: Schedule) -> str:
    """Schedules a pipeline; a run that is due while the last one still runs is left out.

    Args:
        job: The compiled PipelineJob.
        settings: Where and as whom.
        schedule: When.

    Returns:
        The schedule's resource name.

    Raises:
        ConfigError: The project or the region is not set, or there is a schedule of that name.
        SubmissionRefused: Vertex AI refused it or could not be reached.
    """
    with _calling(settings, "aiplatform.schedules.create"):
        client = ScheduleServiceClient(**_connection(settings))
        parent = _parent(settings)
        for found in client.list_schedules(
            request={"parent": parent, "filter": f'display_name="{schedule.name}"'}, timeout=_TIMEOUT_SECONDS
        ):
            raise ConfigError(
                f"there is a schedule {schedule.name!r} already: {found.name}",
                "Both would run. Delete that one, or give another --name.",
            )
        made = client.create_schedule(
            parent=parent,
            schedule=VertexSchedule(
                display_name=schedule.name,
                cron=f"TZ={schedule.time_zone} {schedule.cron}" if schedule.time_zone else schedule.cron,
                max_concurrent_run_count=1,
                create_pipeline_job_request=CreatePipelineJobRequest(
                    parent=parent, pipeline_job=_pipeline_job(job, settings, schedule.name)
                ),
            ),
            timeout=_TIMEOUT_SECONDS,
        )
    return str(made.name)


def _pipeline_job(job: dict[str, Any], settings: VertexSettings, display_name: str) -> PipelineJob:
    runtime = job["runtimeConfig"]
    made = PipelineJob(
        display_name=display_name,
        pipeline_spec=job["pipelineSpec"],
        labels={**job.get("labels", {}), **settings.labels},
        runtime_config=PipelineJob.RuntimeConfig(
            gcs_output_directory=runtime["gcsOutputDirectory"], parameter_values=runtime.get("parameterValues", {})
        ),
        service_account=settings.service_account,
        network=settings.network,
    )
    if settings.kms_key:
        made.encryption_spec.kms_key_name = settings.kms_key
    return made


def _parent(settings: VertexSettings) -> str:
    return f"projects/{settings.project}/locations/{settings.region}"


def _connection(settings: VertexSettings) -> dict[str, Any]:
    credentials, _ = google.auth.default(scopes=[_SCOPE])
    endpoint = settings.endpoint or f"{settings.region}-aiplatform.googleapis.com"
    return {
        "credentials": credentials,
        "client_options": ClientOptions(api_endpoint=endpoint),
        "transport": "rest",
    }


@contextmanager
def _calling(settings: VertexSettings, permission: str) -> Iterator[None]:
    """Turns what a call may raise into errors that say where it went and what is missing."""
    for key in ("project", "region"):
        if not getattr(settings, key):
            raise ConfigError(f"platform.vertex.{key} is not set", "Vertex AI needs a project and a region.")
    where = f"project {settings.project}, region {settings.region}"
    try:
        yield
    except auth_errors.DefaultCredentialsError as error:
        raise SubmissionRefused(
            f"there are no Google Cloud credentials: {error}",
            "Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS.",
        ) from error
    except auth_errors.GoogleAuthError as error:
        raise SubmissionRefused(
            f"Google Cloud's credentials cannot be used for {where}: {error}",
            "Check GOOGLE_APPLICATION_CREDENTIALS, or log in again.",
        ) from error
    except api_errors.GoogleAPICallError as error:
        raise SubmissionRefused(
            f"Vertex AI refused ({where}): {error.code} {error.message}", _remedy(error, settings, permission)
        ) from error
    except requests.RequestException as error:
        raise SubmissionRefused(
            f"Vertex AI cannot be reached ({where}): {type(error).__name__}: {error}",
            "Check the network, the region's name and platform.vertex.endpoint, then submit again.",
        ) from error


def _remedy(error: api_errors.GoogleAPICallError, settings: VertexSettings, permission: str) -> str:
    if isinstance(error, api_errors.Unauthorized):
        return "The credentials are not valid or have expired: log in again, or check GOOGLE_APPLICATION_CREDENTIALS."
    if isinstance(error, api_errors.Forbidden):
        act_as = f", and iam.serviceAccounts.actAs on {settings.service_account}" if settings.service_account else ""
        return (
            f"Grant the caller {permission} in project {settings.project} (role roles/aiplatform.user){act_as}; "
            "the Vertex AI API must be enabled there."
        )
    if isinstance(error, api_errors.NotFound):
        return "Check platform.vertex.project and platform.vertex.region, and that the Vertex AI API is enabled there."
    if isinstance(error, api_errors.TooManyRequests):
        return f"A quota of project {settings.project} in {settings.region} is used up: wait, or ask for a higher one."
    if isinstance(error, api_errors.ServerError):
        return "Vertex AI itself failed; submit again later."
    return "Correct what it names, then submit again."
