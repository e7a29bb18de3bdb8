"""A run whose drops, artifacts and push directory are in S3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.cluster.on_kubeflow import changed, compare_pushed, submit
from tests.cluster.proof import NODE, Proof
from tests.end_to_end.harness import Project
from tests.s3 import S3

BUCKET = "s3://agency"
_OUTPUT = f"{BUCKET}/project/output"
#: What Kubeflow's launcher must be told of the store, as deploy/README.md says.
_PROVIDERS = {
    "s3": {
        "default": {
            "endpoint": f"{NODE}:9000",
            "region": "eu-central-1",
            "disableSSL": True,
            "credentials": {"fromEnv": True},
        }
    }
}


def prove_s3(proof: Proof, config: Path, local: Project) -> None:
    """Adds the row of a run in S3; the project has run locally."""
    with proof.row("the same from s3:// drops to an s3:// push directory, in the store of kubeflow.sh") as saw:
        store = S3(9000, NODE)
        proof.environment |= store.environment
        store.make_bucket(BUCKET.removeprefix("s3://"))
        store.put_folder(local.folder / "drops", f"{BUCKET}/project/drops")
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        literals = [f"--from-literal={key}={store.environment[key]}" for key in keys]
        proof.kubectl("--namespace", "kubeflow", "create", "secret", "generic", "s3", *literals)
        launcher = f"--from-literal=providers={yaml.safe_dump(_PROVIDERS)}"
        said = proof.kubectl(
            *("--namespace", "kubeflow", "create", "configmap", "kfp-launcher", launcher, "--dry-run=client"),
            *("--output", "yaml"),
        )
        proof.kubectl("--namespace", "kubeflow", "apply", "--filename", "-", text=said)

        def move(document: dict[str, Any]) -> None:
            document["data"]["root"] = f"{BUCKET}/project/drops"
            document["output"] = _OUTPUT
            document["platform"]["steps"] = {
                "default": {
                    "environment": {name: value for name, value in store.environment.items() if name not in keys},
                    "secrets": [{"name": "s3", "environment": {key: key for key in keys}}],
                }
            }

        run = submit(proof, changed(config, "s3", move))
        assert run.state == "SUCCEEDED", run
        version, compared = compare_pushed(store, _OUTPUT, proof.folder / "pushed-s3", local)
        saw += [run.state, f"version {version} pushed", compared]
