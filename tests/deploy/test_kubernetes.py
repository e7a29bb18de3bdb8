"""The manifests that kustomize builds: valid for Kubernetes, and as closed as deploy/README.md says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml

from adclick.pipeline.cli.app import app
from adclick.schema.errors import ConfigError, DataRefused, ModelRefused
from tests.deploy.conftest import DEPLOY, run_tool

FOLDER = DEPLOY / "kubernetes"
BUILDS = ["base", "overlays/one-node", "overlays/google-cloud"]
VERSIONS = ["1.30", "1.37"]
Manifests = list[dict[str, Any]]


@pytest.fixture(scope="module")
def build(kustomize: str) -> Callable[[str], Manifests]:
    built: dict[str, Manifests] = {}

    def get(name: str) -> Manifests:
        if name not in built:
            done = run_tool(kustomize, "build", FOLDER / name)
            assert done.returncode == 0, done.stderr
            built[name] = list(yaml.safe_load_all(done.stdout))
        return built[name]

    return get


def of(manifests: Manifests, kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] == kind}


def pods(manifests: Manifests) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each workload's name and pod template."""
    for kind in ("Deployment", "CronJob"):
        for name, one in of(manifests, kind).items():
            spec = one["spec"] if kind == "Deployment" else one["spec"]["jobTemplate"]["spec"]
            yield name, spec["template"]


@pytest.mark.parametrize("name", BUILDS)
def test_kubernetes_takes_every_manifest(build: Callable[[str], Manifests], name: str) -> None:
    for manifest in build(name):
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)
        assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "adclick"


@pytest.mark.parametrize("name", BUILDS)
def test_pods_are_closed(build: Callable[[str], Manifests], name: str) -> None:
    found = dict(pods(build(name)))
    assert set(found) == {"tensorflow-serving", "gateway", "month"}
    for workload, template in found.items():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0, workload
        assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        assert spec["automountServiceAccountToken"] is False
        mounted = {volume["name"] for volume in spec["volumes"]}
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"], workload
            assert context["capabilities"]["drop"] == ["ALL"]
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            assert {mount["name"] for mount in container["volumeMounts"]} == mounted
            # No secret's text stands in a manifest.
            assert "env" not in container
    assert not of(build(name), "Secret")


@pytest.mark.parametrize("name", BUILDS)
def test_servers_are_probed_scaled_and_kept_up(build: Callable[[str], Manifests], name: str) -> None:
    manifests = build(name)
    deployments = of(manifests, "Deployment")
    for workload, deployment in deployments.items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            (how,) = container[probe].keys() & {"httpGet", "tcpSocket"}
            assert container[probe][how]["port"] in ports
        scaler = of(manifests, "HorizontalPodAutoscaler")[workload]["spec"]
        assert scaler["scaleTargetRef"]["name"] == workload
        assert scaler["minReplicas"] < scaler["maxReplicas"]
        budget = of(manifests, "PodDisruptionBudget")[workload]["spec"]
        service = of(manifests, "Service")[workload]["spec"]
        for selector in (budget["selector"]["matchLabels"], service["selector"]):
            assert selector.items() <= labels.items()
        assert {port["targetPort"] for port in service["ports"]} <= ports


def may_reach(manifests: Manifests, target: dict[str, str]) -> list[tuple[Any, Any]]:
    """Sources and ports of every policy that lets something into pods with these labels."""
    policies = of(manifests, "NetworkPolicy").values()
    chosen = [p["spec"] for p in policies if p["spec"]["podSelector"].get("matchLabels", {}).items() <= target.items()]
    assert any(not spec["podSelector"] and spec["policyTypes"] == ["Ingress", "Egress"] for spec in chosen), "all open"
    rules = [rule for spec in chosen if "Ingress" in spec["policyTypes"] for rule in spec.get("ingress", [])]
    return [(source, rule["ports"]) for rule in rules for source in rule.get("from", [None])]


def test_the_gateway_alone_reaches_tensorflow_serving(build: Callable[[str], Manifests]) -> None:
    target = {"app.kubernetes.io/name": "tensorflow-serving"}
    gateway = ({"podSelector": {"matchLabels": {"app.kubernetes.io/name": "gateway"}}}, [{"port": "grpc"}])
    for name in ("base", "overlays/one-node"):
        assert may_reach(build(name), target) == [gateway]
    allowed = may_reach(build("overlays/google-cloud"), target)
    assert gateway in allowed
    (prometheus,) = (one for one in allowed if one != gateway)
    assert prometheus[0]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    assert prometheus[0]["namespaceSelector"] and prometheus[1] == [{"port": "rest"}]


@pytest.mark.parametrize("name", BUILDS)
def test_the_month(build: Callable[[str], Manifests], name: str) -> None:
    cron = of(build(name), "CronJob")["month"]["spec"]
    assert cron["concurrencyPolicy"] == "Forbid"
    job = cron["jobTemplate"]["spec"]
    rule = next(rule for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "FailJob")
    assert rule["onExitCodes"]["values"] == [error.exit_code for error in (ConfigError, DataRefused, ModelRefused)]
    (container,) = job["template"]["spec"]["containers"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert_understood(container["args"])


def test_the_gateway_s_arguments_are_the_command_s(build: Callable[[str], Manifests]) -> None:
    for name in BUILDS:
        (container,) = of(build(name), "Deployment")["gateway"]["spec"]["template"]["spec"]["containers"]
        assert_understood(["serve", *container["args"]])


def test_the_google_cloud_overlay_names_one_s_own(build: Callable[[str], Manifests]) -> None:
    manifests = build("overlays/google-cloud")
    text = yaml.safe_dump_all(manifests)
    assert "replaced" not in text and "PersistentVolumeClaim" not in text and "persistentVolumeClaim" not in text
    for deployment in of(manifests, "Deployment").values():
        template = deployment["spec"]["template"]
        annotations = template["metadata"]["annotations"]
        assert annotations["gke-gcsfuse/volumes"] == annotations["prometheus.io/scrape"] == "true"
        (volume,) = (one for one in template["spec"]["volumes"] if one["name"] == "models")
        assert volume["csi"]["volumeAttributes"]["bucketName"] == "your-bucket"


def assert_understood(arguments: list[str]) -> None:
    """The command line takes these arguments."""
    group = typer.main.get_command(app)
    name, *rest = arguments
    context = typer.Context(group)
    command = group.get_command(context, name)  # type: ignore[attr-defined]
    assert command is not None, f"adclick has no command {name}"
    command.make_context(name, list(rest))


def test_every_config_map_that_is_not_made_here_is_documented(build: Callable[[str], Manifests]) -> None:
    readme = (DEPLOY / "README.md").read_text()
    manifests = build("base")
    text = yaml.safe_dump_all(manifests)
    for kind, pattern in (("configmap", r"configMap:\s+name: (\S+)"), ("secret", r"secretName: (\S+)")):
        made = of(manifests, "ConfigMap") if kind == "configmap" else {}
        for name in set(re.findall(pattern, text)) - set(made):
            assert re.search(rf"kubectl .*create {kind} (generic )?{name} ", readme), name
