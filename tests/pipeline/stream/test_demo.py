"""`adclick stream demo`: what it finds in sample traffic, in this process and over a broker, and what it lacks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from adclick.pipeline.config.settings import load_config
from adclick.stream.sample_traffic.writer import write_sample_traffic
from tests.stream.stages import WAIT_SECONDS, write_fraud_model


def demo(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "adclick", "stream", "demo", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * WAIT_SECONDS)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sample traffic, and a model that goes by the clicks of an address alone."""
    folder = tmp_path_factory.mktemp("demo") / "project"
    write_sample_traffic(folder, clicks=10_000, months=2)
    file = folder / "config.yaml"
    document = yaml.safe_load(file.read_text())
    document["features"] = {name: document["features"][name] for name in ("click_id", "time", "is_fraud")}
    document["features"]["ip"] = {"role": "categorical"}
    document["stream"]["features"] = {"clicks_by_ip": {"kind": "count", "by": ["ip"], "window": "1d"}}
    document["stream"]["alerts"]["minimum_clicks"] = 1
    document.pop("evaluation")
    file.write_text(yaml.safe_dump(document))
    write_fraud_model(Path(load_config(file).push_base), 1)
    return file


def rows(shown: str) -> dict[str, tuple[str, ...]]:
    """By kind of click, what stands in the table."""
    found = re.findall(r"^([a-z ]+?) {2,}([\d,]+) +([\d,]+) +([\d.]+%)$", shown, re.MULTILINE)
    return {kind: tuple(figures) for kind, *figures in found}


@pytest.mark.end_to_end
def test_over_kafka_and_flink_it_finds_what_it_finds_in_this_process(project: Path) -> None:
    options = ("--config", str(project), "--rate", "500", "--seconds", "2")
    embedded = demo(*options)
    assert embedded.returncode == 0, embedded.stderr
    found = rows(embedded.stdout)
    assert len(found) > 3 and re.search(r"\b[1-9]\d* alerts", embedded.stdout), embedded.stdout
    assert "precision" in embedded.stdout and "events/s of 500" in embedded.stdout
    for option in ("--kafka", "--flink"):
        elsewhere = demo(*options, option)
        if "is not installed" in elsewhere.stderr or "newer than PyFlink takes" in elsewhere.stderr:
            pytest.skip(elsewhere.stderr)
        assert elsewhere.returncode == 0, elsewhere.stderr
        assert rows(elsewhere.stdout) == found, option


def test_without_the_truth_it_says_what_it_plays(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(project.read_text())
    done = demo("--config", str(file))
    assert done.returncode == 2 and "adclick sample-data --stream" in done.stderr


@pytest.mark.parametrize("option", ["--kafka", "--flink"])
def test_without_java_it_says_how_to_get_it(
    project: Path, option: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if option == "--flink" and sys.version_info >= (3, 12):
        pytest.skip("PyFlink takes no newer Python than 3.11")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    done = demo("--config", str(project), option)
    assert done.returncode == 2 and "openjdk-17" in done.stderr
