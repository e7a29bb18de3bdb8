"""Runs the command line as a user does, in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ADCLICK = Path(sys.executable).with_name("adclick")


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def adclick(*arguments: str | Path, stdin: str | None = None) -> Done:
    """Runs a command to its end; a traceback is never what a user should see."""
    finished = subprocess.run(
        [str(ADCLICK), *map(str, arguments)],
        capture_output=True,
        text=True,
        input=stdin,
        env=environment(),
        check=False,
    )
    assert "Traceback" not in finished.stdout + finished.stderr, finished.stdout + finished.stderr
    return Done(finished.returncode, finished.stdout, finished.stderr)


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "ADCLICK_TRACEBACK"}


@dataclass(frozen=True)
class Project:
    """A folder with drops, a config and a schema."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def push_base(self) -> Path:
        return self.output / "serving_model" / "adclick"

    def run(self, *arguments: str) -> Done:
        return adclick("run", "--config", self.config, *arguments)

    def status(self) -> dict[str, Any]:
        done = adclick("status", "--config", self.config, "--json")
        assert done.code == 0, done.text
        return dict(json.loads(done.out))

    @property
    def versions(self) -> list[int]:
        """Versions in the push directory; every entry must be a whole one."""
        if not self.push_base.is_dir():
            return []
        entries = sorted(entry.name for entry in self.push_base.iterdir())
        assert all(entry.isdecimal() and (self.push_base / entry / "saved_model.pb").is_file() for entry in entries), (
            entries
        )
        return sorted(map(int, entries))

    def edit_config(self, edit: Callable[[dict[str, Any]], None]) -> None:
        document = yaml.safe_load(self.config.read_text())
        edit(document)
        self.config.write_text(yaml.safe_dump(document, sort_keys=False))

    def edit_rows(self, month: str, edit: Callable[[list[str]], list[str]]) -> None:
        """Rewrites the rows of a month's uncompressed CSV files."""
        for file in (self.folder / "drops" / month).glob("*.csv"):
            header, *rows = file.read_bytes().split(b"\n")
            edited = edit([row.decode("latin-1") for row in rows if row])
            file.write_bytes(b"\n".join([header, *(row.encode("latin-1") for row in edited), b""]))


def held_out_examples(project: Project, count: int) -> list[bytes]:
    """Serialized examples of the eval split of the small project's newest month."""
    # Imported here: what only runs the command line should not wait for TensorFlow.
    import tensorflow as tf

    folder = project.output / "pipeline_root" / "AdExampleGen-2026-09" / "examples"
    files = sorted(str(file) for file in folder.glob("*/Split-eval/*"))
    return [record.numpy() for record in tf.data.TFRecordDataset(files).take(count)]


def small_project(folder: Path, *, months: int = 2, rows: int = 8_000) -> Project:
    """Sample data small enough for a run in seconds, with gates that so few clicks can pass."""
    done = adclick(
        *("sample-data", "--output", folder, "--rows", str(rows), "--creatives", "60", "--months", str(months)),
        "--quiet",
    )
    assert done.code == 0, done.text
    project = Project(folder)

    def loosen(config: dict[str, Any]) -> None:
        config["evaluation"] = {
            "slices": [["device_type"]],
            "new_value_slices": ["ad_id"],
            "confidence_intervals": False,
            "thresholds": [
                {"metric": "auc", "lower": 0.56},
                {"metric": "normalised_entropy", "upper": 1.03, "max_drop": 0.02},
                {"metric": "calibration_ratio", "lower": 0.5, "upper": 2.0},
            ],
        }
        # So few clicks show no effect of images; the tests need a network that has one.
        config["training"] = {"max_epochs": 3, "epoch_evidence": -1_000}
        config["ingestion"] = {"max_quarantine_share": 0.05}

    project.edit_config(loosen)
    return project
