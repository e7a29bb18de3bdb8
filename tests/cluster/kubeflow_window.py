"""The longest window that fits an Argo workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.cluster.on_kubeflow import changed, make_project, submit
from tests.cluster.proof import Proof
from tests.end_to_end.harness import Project, small_project

MONTHS = 60
_ROWS = 24_000


def prove_window(proof: Proof, _: Project) -> None:
    """Adds the row of a window of sixty months, small ones."""
    with proof.row(f"a window of {MONTHS} months runs") as saw:
        project = small_project(proof.folder / "window", months=MONTHS, rows=_ROWS)

        def all_months(document: dict[str, Any]) -> None:
            document["data"]["window"] = MONTHS
            # What so few clicks a month come to is not asked here.
            document["evaluation"]["thresholds"] = [{"metric": "auc", "lower": 0.3}]

        config: Path = make_project(proof, project, "window")
        run = submit(proof, changed(config, "all-months", all_months), seconds=2 * 3600)
        read = sorted(step for step in run.pods if step.startswith("AdExampleGen-"))
        assert len(read) == MONTHS and "ModelGate" in run.pods, run
        assert run.state == "SUCCEEDED", run
        saw += [run.state, f"{len(run.pods)} steps, {len(read)} of them AdExampleGen"]
