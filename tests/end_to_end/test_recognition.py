"""The recogniser of devices, from a month's drop to a device that uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.harness import Project, adclick, small_project

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = small_project(tmp_path_factory.mktemp("recognition"), months=1, rows=2_000)

    def shorten(config: dict[str, Any]) -> None:
        config["recognition"] = {
            "size": 32,
            "width": 8,
            "steps": 60,
            "batch_size": 16,
            "evaluation_creatives": 20,
            "min_top_1": 0.1,
            "max_false_accept": 1.0,
        }

    project.edit_config(shorten)
    return project


def _versions(project: Project) -> list[Path]:
    folder = project.push_base.parent / "recognition"
    return sorted(folder.iterdir()) if folder.is_dir() else []


@pytest.fixture(scope="module")
def version(project: Project) -> Path:
    """The version of the first run, which prints what it measured."""
    done = project.run("--pipeline", "recognition")
    assert done.code == 0, done.text
    assert "int8" in done.out
    assert "night" in done.out
    (version,) = _versions(project)
    assert f"pushed: {version}" in done.out
    return version


def test_a_version_holds_the_judged_form_its_threshold_and_what_was_measured(version: Path) -> None:
    facts = json.loads((version / "recognition.json").read_text())
    chosen = next(form for form in facts["forms"] if form["form"] == facts["form"])
    assert (version / "recogniser.tflite").stat().st_size == chosen["size"]
    assert facts["thresholds"]["known"] == chosen["judgement"]["threshold"]
    assert {form["form"] for form in facts["forms"]} == {"float32", "float16", "int8"}
    top_1 = chosen["judgement"]["top_1"]
    assert top_1["lower"] <= top_1["value"] <= top_1["upper"]
    assert facts["creatives"]["training"] + facts["creatives"]["held_out"] >= 20


def test_status_and_report_know_the_run(project: Project, version: Path) -> None:
    runs = project.status()["recognition_runs"]
    assert (runs[0]["state"], runs[0]["version"], runs[0]["pushed_to"]) == ("pushed", int(version.name), str(version))
    facts = json.loads((version / "recognition.json").read_text())
    assert (runs[0]["form"], runs[0]["forms"]) == (facts["form"], facts["forms"])
    done = adclick("report", "--config", project.config)
    assert done.code == 0, done.text
    assert f"Version {version.name} finds" in Path(done.out.strip()).read_text()


def test_the_click_model_has_no_part_in_it(project: Project, version: Path) -> None:
    assert version.is_dir()
    assert project.versions == []


def test_a_device_knows_the_creatives_by_the_version(project: Project, version: Path, tmp_path: Path) -> None:
    assert version.is_dir()
    images = sorted((project.folder / "drops").glob("*/images/*.jpg"))[:6]
    rows = [f"{number},{image}" for number, image in enumerate(images)]
    (tmp_path / "creatives.csv").write_text("\n".join(["id,image", *rows]))
    assert adclick("edge", "keys", "--output", tmp_path / "keys").code == 0
    exported = adclick(
        *("edge", "export", "--config", project.config, "--creatives", tmp_path / "creatives.csv"),
        *("--key", tmp_path / "keys" / "private.pem", "--output", tmp_path / "screens.bundle"),
    )
    assert exported.code == 0, exported.text
    device = [sys.executable, "-m", "adclick.serving.edge.command"]
    command = [*device, "check", "--bundle", str(tmp_path / "screens.bundle")]
    checked = subprocess.run(
        [*command, "--public-key", str(tmp_path / "keys" / "public.pem"), *map(str, images)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    decisions = [json.loads(line) for line in checked.stdout.splitlines() if line.startswith("{")]
    assert [decision["creative"] for decision in decisions] == [str(number) for number in range(6)], checked.stderr


def test_the_same_again_reads_and_trains_nothing_also_after_clean(project: Project, version: Path) -> None:
    assert adclick("clean", "--config", project.config).code == 0
    done = project.run("--pipeline", "recognition")
    assert done.code == 0, done.text
    assert _versions(project) == [version]
    assert done.out.count("reused") >= 4


def test_a_recogniser_that_misses_a_limit_is_refused_and_not_pushed(project: Project, version: Path) -> None:
    config = project.config.read_text()
    try:
        project.edit_config(lambda document: document["recognition"].update(max_bytes=10))
        done = project.run("--pipeline", "recognition")
    finally:
        project.config.write_text(config)
    assert done.code == 4, done.text
    assert "more than 10" in done.err
    last = project.status()["recognition_runs"][-1]
    assert (last["state"], last["version"]) == ("model_refused", None)
    assert any("more than 10" in reason for reason in last["reasons"])
    assert _versions(project) == [version]


def test_a_config_without_images_is_refused(project: Project) -> None:
    config = project.config.read_text()
    try:
        project.edit_config(
            lambda document: document.update(
                features={name: column for name, column in document["features"].items() if column["role"] != "image"}
            )
        )
        done = project.run("--pipeline", "recognition")
    finally:
        project.config.write_text(config)
    assert done.code == 2, done.text
    assert "role image" in done.err
