"""Submissions and schedules, to the APIs of the platforms over real sockets."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kfp
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from adclick.pipeline.config.platform import KubeflowSettings, VertexSettings
from adclick.pipeline.targets.compiled_job import as_yaml
from adclick.pipeline.targets.platforms import kubeflow_api as kubeflow
from adclick.pipeline.targets.platforms import platform_of
from adclick.pipeline.targets.platforms import vertex_api as vertex
from adclick.pipeline.targets.schedule import Schedule
from adclick.pipeline.targets.submission import compile_run
from adclick.schema.errors import ConfigError, SubmissionRefused
from tests.pipeline.targets.fakes import FakeKubeflow, FakeVertex, serving
from tests.pipeline.targets.projects import sample_config, window_of

EMAIL = "submitter@agency.iam.gserviceaccount.com"
KEY = "projects/agency/locations/europe-west4/keyRings/r/cryptoKeys/k"
MONTHLY = Schedule("0 6 2 * *", "adclick-monthly", "Europe/Berlin")


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return compile_run(sample_config(), "vertex", window_of("2026-10")).job


@pytest.fixture(scope="module")
def signing_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signing_key: rsa.RSAPrivateKey) -> None:
    """Application-default credentials: a service account's key file."""
    pem = signing_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path / "service_account.json"
    content = {
        "type": "service_account",
        "project_id": "agency",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": EMAIL,
        "token_uri": "http://127.0.0.1:1/token",
    }
    file.write_text(json.dumps(content))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))


@pytest.fixture
def fake_vertex(credentials: None) -> Iterator[FakeVertex]:
    api = FakeVertex()
    with serving(api):
        yield api


@pytest.fixture
def fake_kubeflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKubeflow]:
    monkeypatch.setenv(kubeflow.TOKEN_VARIABLE, "secret")
    api = FakeKubeflow()
    with serving(api):
        yield api


def vertex_settings(api: FakeVertex, **changes: Any) -> VertexSettings:
    return VertexSettings(project="agency", region="europe-west4", endpoint=api.address, **changes)


def assert_signed(header: str, key: rsa.RSAPrivateKey) -> None:
    """The bearer token must be one that this service account's key has signed."""
    kind, _, token = header.partition(" ")
    signed, _, signature = token.rpartition(".")
    assert kind == "Bearer"
    decode = lambda text: base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))  # noqa: E731
    assert json.loads(decode(signed.partition(".")[2]))["iss"] == EMAIL
    key.public_key().verify(decode(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())


def test_a_run_reaches_vertex(fake_vertex: FakeVertex, job: dict[str, Any], signing_key: rsa.RSAPrivateKey) -> None:
    settings = vertex_settings(
        fake_vertex,
        service_account="steps@agency.iam.gserviceaccount.com",
        network="projects/1/global/networks/n",
        labels={"team": "ads"},
        kms_key=KEY,
    )

    name = vertex.submit(job, settings, "adclick 2026-10")

    (request,) = fake_vertex.requests
    assert request.path == "/v1/projects/agency/locations/europe-west4/pipelineJobs"
    assert name == f"projects/agency/locations/europe-west4/pipelineJobs/{request.query['pipelineJobId'][0]}"
    assert_signed(request.headers["authorization"], signing_key)
    assert request.body["displayName"] == "adclick 2026-10"
    assert request.body["pipelineSpec"] == job["pipelineSpec"]
    assert request.body["runtimeConfig"]["gcsOutputDirectory"] == "gs://bucket/output/pipeline_root"
    assert request.body["serviceAccount"] == "steps@agency.iam.gserviceaccount.com"
    assert request.body["network"] == "projects/1/global/networks/n"
    assert request.body["labels"]["team"] == "ads"
    assert request.body["encryptionSpec"] == {"kmsKeyName": KEY}


def test_a_schedule_reaches_vertex(
    fake_vertex: FakeVertex, job: dict[str, Any], signing_key: rsa.RSAPrivateKey
) -> None:
    job = {**job, "runtimeConfig": {**job["runtimeConfig"], "parameterValues": {"month": "latest", "window": 3.0}}}

    name = vertex.create_schedule(job, vertex_settings(fake_vertex), MONTHLY)

    assert name == "projects/agency/locations/europe-west4/schedules/11"
    (request,) = fake_vertex.created
    assert_signed(request.headers["authorization"], signing_key)
    assert request.body["cron"] == "TZ=Europe/Berlin 0 6 2 * *"
    assert request.body["displayName"] == "adclick-monthly"
    assert request.body["maxConcurrentRunCount"] == "1"
    scheduled = request.body["createPipelineJobRequest"]
    assert scheduled["parent"] == "projects/agency/locations/europe-west4"
    assert scheduled["pipelineJob"]["pipelineSpec"] == job["pipelineSpec"]
    assert scheduled["pipelineJob"]["runtimeConfig"]["parameterValues"] == {"month": "latest", "window": 3.0}


def test_a_run_reaches_kubeflow(fake_kubeflow: FakeKubeflow, job: dict[str, Any]) -> None:
    settings = KubeflowSettings(host=fake_kubeflow.address, namespace="ads", service_account="steps")

    assert kubeflow.submit(job, settings, "adclick 2026-10") == "run-1"
    assert kubeflow.submit(job, settings, "adclick 2026-10") == "run-1"

    assert all(request.headers["authorization"] == "Bearer secret" for request in fake_kubeflow.requests)
    experiment, first, second = fake_kubeflow.created
    assert experiment.body == {"display_name": "adclick", "namespace": "ads"}
    assert first.path == second.path == "/apis/v2beta1/runs"
    assert first.body["experiment_id"] == second.body["experiment_id"] == "experiment-0"
    assert first.body["display_name"].startswith("adclick 2026-10 ")
    assert first.body["pipeline_spec"] == job["pipelineSpec"]
    assert first.body["runtime_config"] == {"pipeline_root": "gs://bucket/output/pipeline_root", "parameters": {}}
    assert first.body["service_account"] == "steps"


def test_a_schedule_reaches_kubeflow(fake_kubeflow: FakeKubeflow, job: dict[str, Any]) -> None:
    job = {**job, "runtimeConfig": {**job["runtimeConfig"], "parameterValues": {"month": "latest", "window": 3.0}}}
    settings = KubeflowSettings(host=fake_kubeflow.address)

    made = kubeflow.create_schedule(job, settings, Schedule("0 6 2 * *", "adclick-monthly"))

    assert made == "recurring-1"
    body = fake_kubeflow.created[-1].body
    assert body["trigger"] == {"cron_schedule": {"cron": "0 0 6 2 * *"}}
    assert (body["mode"], body["max_concurrency"], body["no_catchup"]) == ("ENABLE", "1", True)
    assert body["runtime_config"]["parameters"] == {"month": "latest", "window": 3.0}
    assert body["pipeline_spec"] == job["pipelineSpec"]


PLATFORM_SPEC = {
    "platforms": {"kubernetes": {"deploymentSpec": {"executors": {"e": {"podMetadata": {"labels": {"team": "ads"}}}}}}}
}


def test_what_goes_beside_the_spec_reaches_kubeflow(fake_kubeflow: FakeKubeflow, job: dict[str, Any]) -> None:
    settings = KubeflowSettings(host=fake_kubeflow.address)
    both = {"pipeline_spec": job["pipelineSpec"], "platform_spec": PLATFORM_SPEC}

    kubeflow.submit(job, settings, "adclick 2026-10", PLATFORM_SPEC)
    assert fake_kubeflow.created[-1].body["pipeline_spec"] == both
    kubeflow.create_schedule(job, settings, Schedule("0 6 2 * *", "adclick-monthly"), PLATFORM_SPEC)
    assert fake_kubeflow.created[-1].body["pipeline_spec"] == both


@pytest.mark.parametrize("platform_spec", [{}, PLATFORM_SPEC])
def test_kubeflows_own_client_takes_the_compiled_file(
    fake_kubeflow: FakeKubeflow, job: dict[str, Any], tmp_path: Path, platform_spec: dict[str, Any]
) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(as_yaml(job, platform_spec))

    client = kfp.Client(host=fake_kubeflow.address, existing_token="other", namespace="ads")
    client.create_run_from_pipeline_package(str(file), arguments={})

    request = fake_kubeflow.created[-1]
    assert request.headers["authorization"] == "Bearer other"
    given = request.body["pipeline_spec"]
    assert given.get("platform_spec", {}) == platform_spec
    assert given.get("pipeline_spec", given)["root"] == job["pipelineSpec"]["root"]


def test_the_token_may_come_from_a_file(
    fake_kubeflow: FakeKubeflow, job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(kubeflow.TOKEN_VARIABLE)
    monkeypatch.setenv(kubeflow.TOKEN_FILE_VARIABLE, str(tmp_path / "token"))
    with pytest.raises(ConfigError, match="the token cannot be read"):
        kubeflow.submit(job, KubeflowSettings(host=fake_kubeflow.address), "adclick")

    (tmp_path / "token").write_text("mounted\n")
    kubeflow.submit(job, KubeflowSettings(host=fake_kubeflow.address), "adclick")
    assert fake_kubeflow.created[-1].headers["authorization"] == "Bearer mounted"


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "log in again"),
        (403, "Grant the caller aiplatform.pipelineJobs.create in project agency"),
        (404, "platform.vertex.region"),
        (429, "quota of project agency in europe-west4"),
        (503, "submit again later"),
    ],
)
def test_vertex_may_refuse(fake_vertex: FakeVertex, job: dict[str, Any], status: int, remedy: str) -> None:
    fake_vertex.refusal = (status, "the server's own words")

    with pytest.raises(SubmissionRefused) as refused:
        vertex.submit(job, vertex_settings(fake_vertex), "adclick")

    assert refused.value.exit_code == 7
    assert f"project agency, region europe-west4): {status} " in refused.value.message
    assert "the server's own words" in refused.value.message
    assert remedy in refused.value.remedy


def test_a_refused_schedule_names_its_own_permission(fake_vertex: FakeVertex, job: dict[str, Any]) -> None:
    fake_vertex.refusal = (403, "denied")
    with pytest.raises(SubmissionRefused) as refused:
        vertex.create_schedule(job, vertex_settings(fake_vertex, service_account="steps@agency"), MONTHLY)
    assert "aiplatform.schedules.create" in refused.value.remedy
    assert "iam.serviceAccounts.actAs on steps@agency" in refused.value.remedy


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, kubeflow.TOKEN_VARIABLE),
        (403, "Let the caller list experiments (resource of pipelines.kubeflow.org) in namespace ads"),
        (404, "platform.kubeflow.host"),
        (429, "quota of namespace ads"),
        (500, "Kubeflow itself failed"),
    ],
)
def test_kubeflow_may_refuse(fake_kubeflow: FakeKubeflow, job: dict[str, Any], status: int, remedy: str) -> None:
    fake_kubeflow.refusal = (status, "the server's own words")

    with pytest.raises(SubmissionRefused) as refused:
        kubeflow.submit(job, KubeflowSettings(host=fake_kubeflow.address, namespace="ads"), "adclick")

    assert f"namespace ads): {status} the server's own words" in refused.value.message
    assert remedy in refused.value.remedy


def test_a_platform_that_cannot_be_reached_is_named(credentials: None, job: dict[str, Any]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(SubmissionRefused, match=r"Vertex AI cannot be reached .project agency, region europe-west4"):
        vertex.submit(job, VertexSettings(project="agency", region="europe-west4", endpoint=address), "adclick")
    with pytest.raises(SubmissionRefused, match=rf"Kubeflow cannot be reached .{address}"):
        kubeflow.submit(job, KubeflowSettings(host=address), "adclick")


def test_without_credentials_vertex_is_not_asked(
    fake_vertex: FakeVertex, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(SubmissionRefused, match="no Google Cloud credentials"):
        vertex.submit(job, vertex_settings(fake_vertex), "adclick")
    assert not fake_vertex.requests


@pytest.mark.parametrize(
    ("submit", "key"),
    [
        (lambda job: vertex.submit(job, VertexSettings(region="r"), "adclick"), "platform.vertex.project"),
        (lambda job: vertex.submit(job, VertexSettings(project="p"), "adclick"), "platform.vertex.region"),
        (lambda job: kubeflow.submit(job, KubeflowSettings(), "adclick"), "platform.kubeflow.host"),
    ],
)
def test_what_a_platform_needs_is_named(submit: Callable[[Any], str], key: str, job: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{key} is not set"):
        submit(job)


def test_there_is_one_schedule_of_a_name(
    fake_vertex: FakeVertex, fake_kubeflow: FakeKubeflow, job: dict[str, Any]
) -> None:
    fake_vertex.existing = fake_kubeflow.existing = ["adclick-monthly"]
    with pytest.raises(ConfigError, match="already: projects/agency/locations/europe-west4/schedules/5"):
        vertex.create_schedule(job, vertex_settings(fake_vertex), MONTHLY)
    with pytest.raises(ConfigError, match="already: recurring-0"):
        kubeflow.create_schedule(job, KubeflowSettings(host=fake_kubeflow.address), MONTHLY)
    assert not fake_vertex.created
    assert [request.path for request in fake_kubeflow.created] == ["/apis/v2beta1/experiments"]


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        (Schedule("0 6 2 *", "n"), "not a cron schedule of five fields"),
        (Schedule("0 6 2 * * *", "n"), "not a cron schedule of five fields"),
        (Schedule("0 6 2 * !", "n"), "not a cron schedule of five fields"),
        (Schedule("0 6 2 * *", "n", "Europe/Atlantis"), "no such time zone"),
    ],
)
def test_a_wrong_schedule_is_refused_before_the_platform_is_asked(schedule: Schedule, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        platform_of("vertex").check_schedule(schedule)


def test_kubeflow_has_no_time_zone_of_a_schedules_own() -> None:
    platform_of("vertex").check_schedule(MONTHLY)
    with pytest.raises(ConfigError, match="one time zone for all"):
        platform_of("kubeflow").check_schedule(MONTHLY)
