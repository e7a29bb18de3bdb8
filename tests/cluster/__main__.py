"""What `deploy/` and `adclick submit` do on a real Kubernetes and Kubeflow, which `.ci/cluster` starts for this.

    python -m tests.cluster [kubernetes] [kubeflow]

Prints a row for each thing that was tried, with what was seen; ends with 1 if one of them was not as it must be.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.cluster.cloud_storage import EMULATOR_PORT, PROXY_PORT
from tests.cluster.on_kubeflow import prove_kubeflow
from tests.cluster.on_kubernetes import prove_kubernetes
from tests.cluster.proof import NODE, Proof
from tests.end_to_end.harness import small_project
from tests.gcs import Storage

PARTS = {"kubernetes": prove_kubernetes, "kubeflow": prove_kubeflow}
ROWS = 10_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{' or '.join(PARTS)}; both if none is named")
    parts = parser.parse_args().parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no part {sorted(unknown)[0]}")
    folder = Path(os.environ["RUN"]) / "proof"
    folder.mkdir(parents=True)
    storage = Storage(Path(os.environ["WORK"]) / "cloud-storage", EMULATOR_PORT, PROXY_PORT, NODE)
    proof = Proof(folder, storage)
    project = small_project(folder / "project", rows=ROWS)
    with proof.row("the sample project runs locally") as saw:
        proof.adclick("run", "--config", project.config, "--quiet")
        saw.append(f"version {project.versions[0]}")
    for part in parts:
        PARTS[part](proof, project)
    print(f"\n{proof.table()}", flush=True)
    return int(not proof.passed)


if __name__ == "__main__":
    sys.exit(main())
