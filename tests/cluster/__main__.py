"""What `deploy/` and `adclick submit` do on a real Kubernetes and Kubeflow, which `.ci/cluster` starts for this.

    python -m tests.cluster [kubernetes] [kubeflow] [window]

Prints a row for each thing that was tried, with what was seen; ends with 1 if one of them was not as it must be.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.cluster.cloud_storage import EMULATOR_PORT, PROXY_PORT
from tests.cluster.kubeflow_access import prove_permissions, prove_schedule
from tests.cluster.kubeflow_monitor import prove_monitored
from tests.cluster.kubeflow_s3 import prove_s3
from tests.cluster.kubeflow_window import prove_window
from tests.cluster.on_kubeflow import make_bucket, make_project, prove_ends, prove_runs
from tests.cluster.on_kubernetes import prove_kubernetes
from tests.cluster.proof import NODE, Proof, side_by_side
from tests.end_to_end.harness import Project, small_project
from tests.gcs import Storage

ROWS = 10_000


def prove_kubeflow(proof: Proof, local: Project) -> None:
    """Adds the rows of Kubeflow; the project has run locally."""
    config = make_project(proof, local)
    prove_runs(proof, config, local)
    prove_schedule(proof, config)
    prove_permissions(proof, config)
    prove_monitored(proof, config, local)
    side_by_side(lambda: prove_ends(proof, config, local), lambda: prove_s3(proof, config, local))


PARTS = {"kubernetes": prove_kubernetes, "kubeflow": prove_kubeflow, "window": prove_window}
#: What is tried only where it is named: sixty months take an hour.
ON_REQUEST = ("window",)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"{' or '.join(PARTS)}; all but {', '.join(ON_REQUEST)} if none is named",
    )
    parts = parser.parse_args().parts or [name for name in PARTS if name not in ON_REQUEST]
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no part {sorted(unknown)[0]}")
    folder = Path(os.environ["RUN"]) / "proof"
    folder.mkdir(parents=True)
    storage = Storage(Path(os.environ["WORK"]) / "cloud-storage", EMULATOR_PORT, PROXY_PORT, NODE)
    proof = Proof(folder, storage)
    make_bucket(proof)
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
