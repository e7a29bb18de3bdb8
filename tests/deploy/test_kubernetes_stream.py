"""The stream's manifests: valid for Kubernetes, as closed as the others, and of the names that the config has."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from adclick.schema.times import microseconds_of
from adclick.stream.flink.jars import FLINK_VERSION
from adclick.stream.kafka.topics import wanted_topics
from adclick.stream.settings import FlinkSettings, KafkaSettings, TopicsSettings
from tests.deploy.conftest import DEPLOY
from tests.deploy.test_kubernetes import VERSIONS, Manifests, assert_understood, build, may_reach, of  # noqa: F401

STAGES = {"stream-features": "features", "stream-scorer": "score", "stream-alerts": "alerts"}
#: What operators of others define; kubernetes-validate knows nothing of them.
CUSTOM = {
    "KafkaTopic": "kafka.strimzi.io/v1",
    "ScaledObject": "keda.sh/v1alpha1",
    "FlinkDeployment": "flink.apache.org/v1beta1",
}


@pytest.fixture(scope="module")
def manifests(build) -> Manifests:  # type: ignore[no-untyped-def]  # noqa: F811
    return build("overlays/one-node-stream")


@pytest.fixture(scope="module")
def on_flink(build) -> Manifests:  # type: ignore[no-untyped-def]  # noqa: F811
    return build("overlays/one-node-flink")


def test_kubernetes_takes_what_is_its_own(manifests: Manifests, on_flink: Manifests) -> None:
    for manifest in (*manifests, *on_flink):
        assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "adclick"
        if manifest["kind"] in CUSTOM:
            assert manifest["apiVersion"] == CUSTOM[manifest["kind"]]
            continue
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_topics_are_the_config_s(manifests: Manifests) -> None:
    found = {
        name: (topic["spec"]["partitions"], int(topic["spec"]["config"]["retention.ms"]))
        for name, topic in of(manifests, "KafkaTopic").items()
    }
    wanted = wanted_topics(TopicsSettings()).values()
    assert found == {one.name: (one.partitions, microseconds_of(one.retention) // 1000) for one in wanted}


def test_the_stages_are_closed_and_their_arguments_the_command_s(manifests: Manifests) -> None:
    for name, stage in STAGES.items():
        deployment = of(manifests, "Deployment")[name]["spec"]
        spec = deployment["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["automountServiceAccountToken"] is False
        (container,) = spec["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["image"] == "adclick-pipeline:local"
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
        assert container["args"][container["args"].index("--stages") + 1] == stage
        assert container["args"][0] == "stream"
        assert_understood(container["args"])
        if stage != "score":
            assert deployment["replicas"] == 1 and deployment["strategy"] == {"type": "Recreate"}
        ((source, ports),) = may_reach(manifests, {"app.kubernetes.io/name": name})
        assert ports == [{"port": "metrics"}]
        assert source["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}


def test_scorers_follow_the_lag_of_their_own_group(manifests: Manifests) -> None:
    scaled = of(manifests, "ScaledObject")["stream-scorer"]["spec"]
    topic = TopicsSettings().featured_clicks
    assert scaled["scaleTargetRef"]["name"] in of(manifests, "Deployment")
    # KEDA sets the number.
    assert "replicas" not in of(manifests, "Deployment")["stream-scorer"]["spec"]
    assert scaled["maxReplicaCount"] == topic.partitions
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["topic"] == topic.name
    assert trigger["metadata"]["consumerGroup"] == f"{KafkaSettings().group}-scorer"


def test_flink_computes_the_features_and_goes_on_from_its_checkpoints(on_flink: Manifests) -> None:
    cluster = of(on_flink, "FlinkDeployment")["stream-flink"]["spec"]
    assert cluster["flinkVersion"] == f"v{FLINK_VERSION.rpartition('.')[0]}".replace(".", "_")
    assert "job" not in cluster, "the command submits it"
    assert int(cluster["flinkConfiguration"]["taskmanager.numberOfTaskSlots"]) >= FlinkSettings().parallelism
    deployment = of(on_flink, "Deployment")["stream-features"]["spec"]
    submitter = deployment["template"]["spec"]
    pods = cluster["podTemplate"]["spec"]
    for spec in (submitter, pods):
        assert spec["securityContext"]["runAsNonRoot"] and spec["automountServiceAccountToken"] is False
        (container,) = spec["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
        # All see the checkpoints: tasks write them, and what submits looks for the newest.
        (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == "checkpoints")
        assert mount["mountPath"] == "/output/flink_state"
        (volume,) = (volume for volume in spec["volumes"] if volume["name"] == "checkpoints")
        assert volume["persistentVolumeClaim"]["claimName"] in of(on_flink, "PersistentVolumeClaim")
    (container,) = submitter["containers"]
    assert container["image"] == cluster["image"] == "adclick-flink:local"
    assert container["command"] == ["adclick"]
    assert_understood(container["args"])
    assert container["args"][container["args"].index("--flink") + 1] == "stream-flink-rest.adclick.svc:8081"
    assert deployment["replicas"] == 1 and deployment["strategy"] == {"type": "Recreate"}
    assert "stream-features-state" not in of(on_flink, "PersistentVolumeClaim")
    labels = cluster["podTemplate"]["metadata"]["labels"]
    rest = [source for source, ports in may_reach_with_ports(on_flink, labels) if ports == [{"port": 8081}]]
    assert {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "stream-features"}}} in rest


def may_reach_with_ports(manifests: Manifests, labels: dict[str, str]) -> list[tuple[Any, Any]]:
    """Sources and ports that a policy lets into pods with these labels; of all ports None."""
    policies = of(manifests, "NetworkPolicy").values()
    chosen = [p["spec"] for p in policies if p["spec"]["podSelector"].get("matchLabels", {}).items() <= labels.items()]
    rules = [rule for spec in chosen for rule in spec.get("ingress", [])]
    return [(source, rule.get("ports")) for rule in rules for source in rule.get("from", [None])]


def test_deploy_s_readme_names_what_the_cluster_must_have() -> None:
    text = (DEPLOY / "README.md").read_text()
    assert "components/stream" in text and "KEDA" in text and "Strimzi" in text
    assert "components/stream-flink" in text and "Flink Kubernetes operator" in text
