"""Half a year of an agency: what is reused, what is refused, what is left out, rolled back, held and released."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2

from tests.end_to_end.harness import Done, Project, adclick, small_project
from tests.end_to_end.test_refusals import rename_devices, shuffle_clicks

MONTHS = ("2026-08", "2026-09", "2026-10", "2026-11", "2026-12", "2027-01")
_States = metadata_store_pb2.Execution


class Agency:
    """Months are delivered one by one, from a folder that holds all."""

    def __init__(self, project: Project, store: Path) -> None:
        self.project = project
        self._store = store
        (project.folder / "drops").rename(store)

    def deliver(self, month: str) -> None:
        """Delivers a month, or delivers it again."""
        target = self.project.folder / "drops" / month
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self._store / month, target)

    def plain(self, month: str) -> None:
        """Leaves a month its uncompressed files only, so that `edit_rows` reaches every row."""
        for file in (self.project.folder / "drops" / month).glob("*.gz"):
            file.unlink()

    def run(self) -> Done:
        return self.project.run("--quiet")

    @property
    def last(self) -> dict:
        return self.project.status()["runs"][-1]

    def executions(self) -> dict[str, str]:
        """What the metadata store says of the newest run: by component, `COMPLETE`, `CACHED` or `FAILED`."""
        config = metadata_store_pb2.ConnectionConfig()
        config.sqlite.filename_uri = str(self.project.output / "metadata.sqlite")
        store = metadata_store.MetadataStore(config)
        run = max(store.get_contexts_by_type("pipeline_run"), key=lambda found: found.create_time_since_epoch)
        found = {}
        for execution in store.get_executions_by_context(run.id):
            (node,) = (
                context.name.partition(".")[2]
                for context in store.get_contexts_by_execution(execution.id)
                if context.type == "node"
            )
            found[node] = _States.State.Name(execution.last_known_state)
        return found


def of_months(executions: dict[str, str], *months: str) -> Counter[str]:
    """How the ingestion, statistics and validation of months ended."""
    kinds = ("AdExampleGen", "StatisticsGen", "ExampleValidator")
    return Counter(executions[f"{kind}-{month}"] for kind in kinds for month in months)


@pytest.fixture(scope="module")
def agency(tmp_path_factory: pytest.TempPathFactory) -> Agency:
    folder = tmp_path_factory.mktemp("agency")
    project = small_project(folder / "project", months=len(MONTHS), rows=18_000)

    def hasten(config: dict[str, Any]) -> None:
        config["evaluation"]["confidence_intervals"] = True
        config["training"]["max_epochs"] = 2

    project.edit_config(hasten)
    return Agency(project, folder / "store")


def test_half_a_year(agency: Agency) -> None:
    project = agency.project
    august, september, october, november, december, january = MONTHS

    agency.deliver(august)
    first = agency.run()
    assert first.code == 0, first.text
    assert "this is the first" in first.out
    assert set(agency.executions().values()) == {"COMPLETE"}
    assert "DriftDetector" not in agency.executions()
    assert len(project.versions) == 1

    agency.deliver(september)
    second = agency.run()
    assert second.code == 0, second.text
    ran = agency.executions()
    assert set(of_months(ran, august)) == {"CACHED"}, "August is not read again"
    assert set(of_months(ran, september)) == {"COMPLETE"}
    assert agency.last["drift"] == []
    assert {found["model"] for found in agency.last["evaluation"]} == {"candidate", "baseline", "change"}
    assert len(project.versions) == 2

    agency.deliver(october)
    agency.plain(october)
    project.edit_rows(october, lambda rows: [row.replace(",phone,", ",tablet,") for row in rows])
    drifting = agency.run()
    assert drifting.code == 0, drifting.text
    assert "device_type: one value's share moved by" in drifting.out
    (line,) = (line for line in agency.last["drift"] if "device_type" in line)
    assert line.startswith(october) and line.endswith("more than 0.3")
    assert set(of_months(agency.executions(), august, september)) == {"CACHED"}
    assert len(project.versions) == 3

    agency.deliver(november)
    project.edit_rows(november, rename_devices)
    anomalous = agency.run()
    assert anomalous.code == 3, anomalous.text
    assert f"{november}: anomaly in the" in anomalous.err and "device_type" in anomalous.err
    ran = agency.executions()
    assert ran[f"DataGate-{november}"] == "FAILED" and "ClickTrainer" not in ran
    assert agency.last["refused_month"] == november
    assert len(project.versions) == 3

    agency.deliver(december)
    without = agency.run()
    assert without.code == 0, without.text
    assert f"{november} is left out: refused in run" in without.out
    assert f"AdExampleGen-{november}" not in agency.executions()
    assert [month["left_out"] is None for month in agency.last["window"]] == [True, False, True]
    assert len(project.versions) == 4

    agency.deliver(november)
    late = agency.run()
    assert late.code == 0, late.text
    ran = agency.executions()
    assert set(of_months(ran, october)) == {"CACHED"}
    assert ran[f"AdExampleGen-{december}"] == ran[f"StatisticsGen-{december}"] == "CACHED"
    assert ran[f"AdExampleGen-{november}"] == ran["ClickTrainer"] == "COMPLETE"
    assert [(month["name"], month["version"]) for month in agency.last["window"]] == [
        (october, 1),
        (november, 2),
        (december, 1),
    ]
    assert len(project.versions) == 5

    agency.deliver(january)
    agency.plain(january)
    project.edit_rows(january, shuffle_clicks)
    worse = agency.run()
    assert worse.code == 4, worse.text
    assert "auc in slice overall is" in worse.err
    assert len(project.versions) == 5

    *_, before, served = project.versions
    rolled_back = adclick("rollback", "--config", project.config, "--reason", "clicks fell")
    assert rolled_back.code == 0, rolled_back.text
    assert f"Version {before} is served in place of {served}" in rolled_back.out
    assert project.versions[-1] == before
    status = project.status()["models"]["adclick"]
    assert status["served_version"] == before and status["withdrawn"] == [served]
    assert status["hold"]["reason"] == "clicks fell"

    agency.deliver(january)
    held = agency.run()
    assert held.code == 5, held.text
    assert "held back by the roll-back of" in held.err and "clicks fell" in held.err
    assert project.versions[-1] == before, "the push does not undo the roll-back"
    assert agency.last["state"] == "held"
    assert agency.last["baseline"] == str(project.push_base / str(before)), "it is judged by what is served"

    released = adclick("rollback", "--config", project.config, "--release")
    assert released.code == 0, released.text
    assert project.versions[-1] == agency.last["pushed_version"]
    again = agency.run()
    assert again.code == 0, again.text
    assert "Nothing has changed" in again.out and project.versions[-1] == agency.last["pushed_version"]

    told = adclick("status", str(project.versions[-1]), "--config", project.config, "--json")
    assert told.code == 0, told.text
    lineage = json.loads(told.out)
    assert [month["span"] for month in lineage["months"]] == [202611, 202612, 202701]
    assert [month["version"] for month in lineage["months"]] == [2, 1, 2], "each as it was delivered at last"
    for month in lineage["months"]:
        for file in month["files"]:
            assert hashlib.sha256(Path(file["path"]).read_bytes()).hexdigest() == file["sha256"]
    assert lineage["blessings"] == {"Evaluator": True, "ServingValidator": True}
    assert lineage["baseline"] == str(project.push_base / str(before))
    assert lineage["settings"]["ClickTrainer"]["training"]["max_epochs"] == 2
    assert lineage["code_version"].startswith("0.")

    kept = [*project.versions[-2:]]
    would = adclick("clean", "--config", project.config, "--keep-versions", "2", "--keep-runs", "1", "--dry-run")
    assert would.code == 0 and "Would delete 3 versions" in would.out, would.text
    cleaned = adclick("clean", "--config", project.config, "--keep-versions", "2", "--keep-runs", "1")
    assert cleaned.code == 0, cleaned.text
    assert project.versions == kept
    assert not (project.output / "pipeline_root" / f"AdExampleGen-{august}" / "examples" / "1").exists()
    unchanged = agency.run()
    assert unchanged.code == 0 and "Nothing has changed" in unchanged.out, unchanged.text
