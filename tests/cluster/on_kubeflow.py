"""Runs of the sample project by Kubeflow Pipelines, submitted as a person does."""

from __future__ import annotations

import itertools
import json
import os
import posixpath
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from adclick.pipeline.runs.step_files import CONTENTS, INPUTS
from adclick.pipeline.targets.compiler import step_kind
from adclick.pipeline.targets.step import Interface, content_address
from tests.cluster.proof import NODE, RUN_SECONDS, Proof, broken_csv, side_by_side
from tests.end_to_end.harness import Project, held_out_examples
from tests.gcs import Storage
from tests.s3 import S3

HOST = f"http://{NODE}:8888"
#: What lies inside the cluster: Kubeflow's launcher obeys the proxy for its own services, too.
SERVICES = "10.96.0.0/16,.svc,.svc.cluster.local,metadata-grpc-service,ml-pipeline,kubernetes.default"
BUCKET = "gs://adclick"
OUTPUT = f"{BUCKET}/project/output"
#: Properties of artifacts that Kubeflow and TFX write.
_KEPT_PROPERTIES = (
    *("blessed", "display_name", "span", "split_names", "store_session_info", "tfx_version", "version"),
)


@dataclass
class Run:
    """A run of Kubeflow.

    Attributes:
        id: Kubeflow's id.
        state: Such as SUCCEEDED.
        pods: By step, the names of the pods that it ran in, by their identities: one made again has the same name.
        disk: By step, the most bytes that the volumes of one of its pods held.
        logs: By a pod's identity, the log of its step.
        told: By step, what the driver told it: its executor input, and our entry point's interface.
    """

    id: str
    state: str = ""
    pods: dict[str, dict[str, str]] = field(default_factory=dict)
    disk: dict[str, int] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)

    def log(self, step: str) -> str:
        return "\n".join(self.logs.get(pod, "") for pod in self.pods.get(step, {}))

    def __str__(self) -> str:
        ends = "\n".join(f"--- {pod}\n{log[-1500:]}" for pod, log in self.logs.items())
        return f"{self.state}, steps {', '.join(sorted(self.pods)) or 'none'}\n{ends}"


def submit(
    proof: Proof, config: Path, during: Callable[[Run], None] = lambda run: None, *, seconds: float = RUN_SECONDS
) -> Run:
    """Submits a project, and waits for the end of the run.

    Args:
        proof: The cluster.
        config: The project's config.
        during: Called again and again while the run lasts.
        seconds: How long it may last.

    Raises:
        AssertionError: It does not end.
    """
    said = proof.adclick("submit", "--config", config, "--target", "kubeflow")
    found = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", said)
    assert found, said
    return follow(proof, found.group(), during, seconds=seconds)


def follow(
    proof: Proof, identity: str, during: Callable[[Run], None] = lambda run: None, *, seconds: float = RUN_SECONDS
) -> Run:
    """Waits for the end of the run of this id, as `submit` does."""
    run = Run(identity)
    deadline = time.monotonic() + seconds
    while run.state not in ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"):
        assert time.monotonic() < deadline, f"run {run.id} is still {run.state}"
        time.sleep(2)
        _look(proof, run)
        during(run)
        with urllib.request.urlopen(f"{HOST}/apis/v2beta1/runs/{run.id}", timeout=60) as answer:
            run.state = str(json.load(answer).get("state"))
    _look(proof, run)
    return run


def _step_pods(proof: Proof, run: Run) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """The pods of a run that steps ran in: each with its step's name and the arguments that it has."""
    selector = f"pipeline/runid={run.id}"
    for pod in proof.json("--namespace", "kubeflow", "get", "pods", "--selector", selector)["items"]:
        for container in pod["spec"]["containers"]:
            words = [*container.get("command", []), *container.get("args", [])]
            if "--executor_input" in words:
                # Such as adclick-7g6lr(0).root(0).ClickTrainer(0).executor(0).
                node = pod["metadata"]["annotations"]["workflows.argoproj.io/node-name"]
                step = node.rpartition(".executor")[0].rpartition(".")[2].partition("(")[0]
                yield step, pod, {name: value for name, value in itertools.pairwise(words) if name.startswith("--")}


def _look(proof: Proof, run: Run) -> None:
    """Notes which pods a run has, what they were told, hold and say."""
    volumes = Path(os.environ["RUN"]) / "kubelet" / "pods"
    for step, pod, arguments in _step_pods(proof, run):
        name, identity = pod["metadata"]["name"], pod["metadata"]["uid"]
        run.pods.setdefault(step, {})[identity] = name
        run.told[step] = {
            "input": json.loads(arguments["--executor_input"]),
            "interface": json.loads(arguments["--interface"]),
        }
        run.disk[step] = max(run.disk.get(step, 0), _bytes_on_disk(volumes / identity))
        if pod["status"].get("phase") in ("Succeeded", "Failed") and identity not in run.logs:
            said = proof.kubectl("--namespace", "kubeflow", "logs", name, "--container", "main", check=False)
            run.logs[identity] = said


def _bytes_on_disk(pod: Path) -> int:
    """Bytes in a pod's volumes, without the programs that Argo and Kubeflow put there."""
    folders = [
        folder
        for folder in pod.glob("volumes/kubernetes.io~empty-dir/*")
        if folder.name not in ("kfp-launcher", "var-run-argo")
    ]
    # Files come and go meanwhile.
    said = subprocess.run(["du", "--bytes", "--summarize", *folders], capture_output=True, text=True).stdout
    return sum(int(line.split()[0]) for line in said.splitlines()) if folders else 0


def executor_inputs(run: Run, read: Callable[[str], bytes]) -> str:
    """What the steps of a run were told, one of each kind, as `tests/pipeline/targets/executor_inputs` keeps it.

    Of artifacts' properties those are kept that Kubeflow and TFX write. Where a step finds its inputs by what another
    had read, there is the other's record of it, by its address.

    Args:
        run: The run, which has ended.
        read: Reads a file of the bucket by its address.
    """
    told: dict[str, dict[str, Any]] = {}
    # Of the months the newest.
    for step in {step_kind(step): step for step in sorted(run.told)}.values():
        given, interface = run.told[step]["input"], Interface.parse(json.dumps(run.told[step]["interface"]))
        artifacts = given["inputs"].get("artifacts", {})
        records = {
            f"{posixpath.dirname(content_address(artifacts[found.by]['artifacts'][0]['uri']))}/{INPUTS}"
            for found in interface.found.values()
        }
        files = {address: json.loads(read(address)) for address in sorted(records)}
        told[step] = {**run.told[step], **({"files": files} if files else {})}
    told = json.loads(json.dumps(told), object_hook=_kept_properties)
    text = json.dumps(told, indent=1, sort_keys=True)
    text = text.replace(f"/gcs/{BUCKET.removeprefix('gs://')}/project", "@LOCAL@").replace(
        f"{BUCKET}/project", "@BUCKET@"
    )
    names = {run.id: "run"}
    return re.sub(
        r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        lambda found: names.setdefault(found.group(), f"attempt-{len(names)}"),
        text,
    )


def _kept_properties(document: dict[str, Any]) -> dict[str, Any]:
    if "metadata" not in document:
        return document
    return {
        **document,
        "metadata": {name: value for name, value in document["metadata"].items() if name in _KEPT_PROPERTIES},
    }


def changed(config: Path, name: str, change: Callable[[dict[str, Any]], None]) -> Path:
    """The config with a change, beside it."""
    document = yaml.safe_load(config.read_text())
    change(document)
    file = config.with_name(f"{name}.yaml")
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return file


def make_project(proof: Proof, local: Project, name: str = "project") -> Path:
    """The local project with its drops and its output in the bucket, below a name; gives its config."""

    def move(document: dict[str, Any]) -> None:
        document["data"]["root"] = f"{BUCKET}/{name}/drops"
        document["output"] = f"{BUCKET}/{name}/output"
        proxies = {name: value for name, value in proof.storage.environment.items() if name.lower() == "https_proxy"}
        inside = f"127.0.0.1,localhost,{NODE},{SERVICES}"
        # What a pod needs to reach this bucket: a company's proxy, its authority, an account.
        environment = {
            **proxies,
            "no_proxy": inside,
            "NO_PROXY": inside,
            "REQUESTS_CA_BUNDLE": "/etc/bucket/authority.pem",
            "CURL_CA_BUNDLE": "/etc/bucket/authority.pem",
            # Kubeflow's launcher, in the same container, reads the bucket too.
            "SSL_CERT_FILE": "/etc/bucket/authority.pem",
            "GOOGLE_APPLICATION_CREDENTIALS": "/etc/bucket/account.json",
        }
        document["platform"] = {
            "image": "adclick-pipeline:local",
            "kubeflow": {"host": HOST},
            "steps": {"default": {"environment": environment, "secrets": [{"name": "bucket", "mount": "/etc/bucket"}]}},
        }

    proof.storage.put_folder(local.folder / "drops", f"{BUCKET}/{name}/drops")
    folder = proof.folder / f"kubeflow-{name}"
    folder.mkdir()
    for file in ("config.yaml", "schema.pbtxt"):
        shutil.copy(local.folder / file, folder)
    return changed(folder / "config.yaml", "config", move)


def make_bucket(proof: Proof) -> None:
    """Makes the bucket, and the secret by which pods reach it."""
    proof.storage.make_bucket(BUCKET.removeprefix("gs://"))
    files = [f"--from-file={proof.storage.folder / name}" for name in ("authority.pem", "account.json")]
    proof.kubectl("--namespace", "kubeflow", "create", "secret", "generic", "bucket", *files)


def pushed_versions(store: Storage | S3, output: str) -> list[str]:
    names = store.names(f"{output}/serving_model/adclick")
    return sorted({name.partition("/")[0] for name in names if name.endswith("/saved_model.pb")})


def _pushed(proof: Proof) -> list[str]:
    return pushed_versions(proof.storage, OUTPUT)


def _predictions(version: Path, examples: list[bytes]) -> Any:
    import tensorflow as tf

    signature = tf.saved_model.load(str(version)).signatures["serving_examples"]
    return signature(examples=tf.constant(examples))["click_probability"].numpy()


def _compared(version: Path, local: Project) -> str:
    """Compares a version's predictions with those of the local run's; says what was compared.

    Raises:
        AssertionError: They are not the same.
    """
    examples = held_out_examples(local, 200)
    here, there = _predictions(version, examples), _predictions(local.push_base / str(local.versions[0]), examples)
    assert np.ptp(there) > 0.01
    difference = float(np.max(np.abs(here - there)))
    assert difference < 1e-6, f"they differ by {difference:.2g}"
    return f"{len(examples)} rows, largest difference {difference:.1g}"


def compare_pushed(store: Storage | S3, output: str, folder: Path, local: Project) -> tuple[str, str]:
    """The only version pushed below an output, and how its predictions compare; it is copied to a folder."""
    base = f"{output}/serving_model/adclick"
    (version,) = pushed_versions(store, output)
    for name in store.names(f"{base}/{version}"):
        if name and not name.endswith("/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(store.get(f"{base}/{version}/{name}"))
    return version, _compared(folder, local)


def _prove_known(proof: Proof, config: Path, saw: list[str]) -> None:
    (version,) = _pushed(proof)
    (run,) = json.loads(proof.adclick("status", "--config", config, "--json"))["runs"]
    assert (run["state"], str(run["pushed_version"])) == ("pushed", version), run
    address = proof.adclick("report", "--config", config).strip()
    page = proof.storage.get(address)
    assert len(page) > 100_000 and b"Error: " not in page, f"{address}: {len(page):,} bytes"
    saw += [f"run {run['run_id']} pushed version {version}", f"a report of {len(page):,} bytes"]


def _prove_first_run(proof: Proof, config: Path, local: Project) -> None:
    run = Run("")
    with proof.row("Kubeflow runs the sample project to a pushed model") as saw:
        run = submit(proof, config)
        assert run.state == "SUCCEEDED", run
        (version,) = _pushed(proof)
        saw += [run.state, f"{len(run.pods)} steps", f"version {version} pushed"]
    record = Path(os.environ["WORK"]) / "executor-inputs.json"
    record.write_text(executor_inputs(run, proof.storage.get))
    with proof.row("its predictions are the local run's") as saw:
        saw.append(compare_pushed(proof.storage, OUTPUT, proof.folder / "pushed", local)[1])
    with proof.row("`adclick status` and `report` know the run by its record in the bucket") as saw:
        _prove_known(proof, config, saw)
    names = proof.storage.names(f"{OUTPUT}/pipeline_root")
    with proof.row("outputs that TFX does not know are left to Kubeflow") as saw:
        logs = [name for name in names if "/executor-logs" in name]
        assert len(logs) >= len(run.pods) > 0, logs
        saw.append(f"{len(logs)} objects of executor-logs")
    with proof.row("no folder markers are left below an artifact's address") as saw:
        # Below the folders of pipeline, run, step and attempt are the artifacts, and their contents.
        below = [name.split("/", 4)[4] for name in names if name.count("/") > 4]
        markers = [name for name in below if name.endswith("/") and name != f"{CONTENTS}/"]
        assert below and not markers, markers
        saw.append(f"none among {len(names)} objects")
    with proof.row("inputs are not copied into the pods") as saw:
        contents = [name for name in names if f"/{CONTENTS}/" in name and not name.endswith("/")]
        held = sum(len(proof.storage.get(f"{OUTPUT}/pipeline_root/{name}")) for name in contents)
        step, most = max(run.disk.items(), key=lambda item: item[1])
        assert 0 < most < held / 10, f"{held:,} bytes in the bucket; in the pods {run.disk}"
        saw.append(f"at most {most:,} bytes in the volumes of a pod ({step}); the run's artifacts hold {held:,}")


def _prove_cache(proof: Proof, config: Path) -> None:
    def more_cpu(document: dict[str, Any]) -> None:
        steps = document["platform"]["steps"]
        steps["Evaluator"] = {**steps["default"], "cpu": 1.5}

    with proof.row("the same again, with another cpu for one step, runs no step") as saw:
        again = submit(proof, changed(config, "cpu", more_cpu))
        assert (again.state, again.pods) == ("SUCCEEDED", {}), again
        assert len(_pushed(proof)) == 1
        saw.append("SUCCEEDED, no pod of a step, nothing pushed")


def _prove_refused_model(proof: Proof, config: Path) -> None:
    def demand_too_much(document: dict[str, Any]) -> None:
        document["evaluation"]["thresholds"] = [{"metric": "auc", "lower": 0.999}]

    with proof.row("a refused model fails the run, and says why") as saw:
        run = submit(proof, changed(config, "refused", demand_too_much))
        said = re.search(r"auc in slice overall is [\d.]+; required: at least 0\.999", run.log("ModelGate"))
        assert run.state == "FAILED" and said, run
        assert "is pushed" not in run.log("ModelPusher"), run
        saw += [f"FAILED at ModelGate: {said.group()}", "nothing pushed"]


def _prove_deleted_pod(proof: Proof, config: Path) -> None:
    deleted: list[str] = []

    def delete(run: Run) -> None:
        for pod in [] if deleted else run.pods.get("ClickTrainer", {}).values():
            at_work = "jsonpath={.status.containerStatuses[?(@.name=='main')].state.running}"
            if proof.kubectl("--namespace", "kubeflow", "get", "pod", pod, "--output", at_work, check=False).strip():
                # It says so once it begins; what it wrote until now must not harm the second attempt.
                said = proof.kubectl("--namespace", "kubeflow", "logs", pod, "--container", "main", check=False)
                if "Starting executor" in said:
                    proof.kubectl("--namespace", "kubeflow", "delete", "pod", pod, "--grace-period=0", "--force")
                    deleted.append(pod)

    def train_otherwise(document: dict[str, Any]) -> None:
        document["training"]["max_epochs"] = 2

    with proof.row("a step's pod that is deleted while it works is made again") as saw:
        run = submit(proof, changed(config, "deleted", train_otherwise), delete)
        assert deleted and run.state == "SUCCEEDED" and len(run.pods["ClickTrainer"]) == 2, f"deleted {deleted}; {run}"
        assert len(_pushed(proof)) == 2
        saw.append(f"SUCCEEDED with {len(run.pods['ClickTrainer'])} pods of ClickTrainer one after the other, pushed")


def _prove_held_model(proof: Proof, config: Path) -> None:
    def train_otherwise(document: dict[str, Any]) -> None:
        document["training"]["max_epochs"] = 4

    with proof.row("after a roll-back a model is held, and the run does not fail") as saw:
        versions = _pushed(proof)
        proof.adclick("rollback", "--config", config, "--reason", "a proof")
        run = submit(proof, changed(config, "held", train_otherwise))
        said = re.search(r".*\bheld\b.*", run.log("ModelPusher"))
        assert run.state == "SUCCEEDED" and said, run
        assert set(_pushed(proof)) <= set(versions), _pushed(proof)
        saw += [run.state, said.group()[:200]]


def _prove_refused_data(proof: Proof, config: Path, local: Project) -> None:
    root = f"{BUCKET}/broken/drops"

    def read_broken(document: dict[str, Any]) -> None:
        document["data"]["root"] = root

    with proof.row("refused data fail the run at the gate, and say why") as saw:
        for file in (local.folder / "drops" / "2026-09").glob("*.csv"):
            proof.storage.put(f"{root}/2026-09/{file.name}", broken_csv(file))
        run = submit(proof, changed(config, "broken", read_broken))
        said = re.search(r"error: (.*are quarantined.*)", run.log("DataGate-2026-09"))
        assert run.state == "FAILED" and said, run
        assert "ClickTrainer" not in run.pods, run
        saw.append(f"FAILED at DataGate-2026-09: {said.group(1)[:160]}")


def prove_runs(proof: Proof, config: Path, local: Project) -> None:
    """Adds the rows of a first run, and of the same again."""
    _prove_first_run(proof, config, local)
    _prove_cache(proof, config)


def prove_ends(proof: Proof, config: Path, local: Project) -> None:
    """Adds the rows of runs that end otherwise; the project has run, and its model is pushed."""

    def push_and_hold() -> None:
        _prove_deleted_pod(proof, config)
        _prove_held_model(proof, config)

    side_by_side(
        push_and_hold,
        lambda: _prove_refused_model(proof, config),
        lambda: _prove_refused_data(proof, config, local),
    )
