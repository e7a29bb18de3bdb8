"""A project whose every path holds what shells, patterns, addresses and markup give a meaning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.end_to_end.harness import adclick

STRANGE = "a b [v1]*?#%20'\"ü&{x}"
ROWS = 600


def write_month(folder: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    (folder / "images [1]").mkdir(parents=True)
    for number in range(4):
        pixels = random.integers(0, 255, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images [1]" / f"{number} [*]#%20.png")
    ads = random.integers(0, 4, ROWS)
    clicked = random.random(ROWS) < 0.1 + 0.2 * (ads == 1)
    lines = [
        f"{seed}-{row},ad{ad},images [1]/{ad} [*]#%20.png,{'Yes' if click else 'No'}"
        for row, (ad, click) in enumerate(zip(ads, clicked, strict=True))
    ]
    (folder / "log [1].csv").write_text("\n".join(["impression_id,Größe,image,clicked", *lines, ""]), encoding="utf-16")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strange") / STRANGE
    for seed, month in enumerate(("2026-01", "2026-02")):
        write_month(folder / "data [x]" / month, seed)
    (folder / "data [x]" / "2026-02" / "more.csv.7z").touch()
    (folder / "data [x]" / "2026-02" / ".DS_Store").touch()
    done = adclick("init", folder / "data [x]", "--output", folder / "project *")
    assert done.code == 0, done.text
    config = folder / "project *" / "config.yaml"
    document = yaml.safe_load(config.read_text(encoding="utf-8"))
    assert document["csv"] == {"encoding": "utf-16"}
    document["training"] = {"max_epochs": 1}
    document["evaluation"] = {"confidence_intervals": False, "thresholds": [{"metric": "auc", "lower": 0.0}]}
    document["serving"] = {"push_directory": "../models [v1]"}
    config.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    done = adclick("run", "--config", config)
    assert done.code == 0, done.text
    assert "'2026-02/more.csv.7z'" in done.out and "1 file or folder" in done.out
    return config


def test_every_command_finds_what_the_run_left(project: Path) -> None:
    folder = project.parent.parent
    done = adclick("predict", "--config", project, "--quiet")
    assert done.code == 0 and 0 < float(done.out) < 1, done.text
    status = json.loads(adclick("status", "--config", project, "--json").out)
    (run,) = status["runs"]
    assert (run["state"], run["unread"], run["litter"]) == ("pushed", ["2026-02/more.csv.7z"], 1)
    assert run["drops"][1]["creatives_by_status"] == {"ok": 4}
    done = adclick("batch-predict", "--config", project, "--output", folder / "scores [1].csv")
    assert done.code == 0, done.text
    assert len((folder / "scores [1].csv").read_text().splitlines()) == ROWS + 1
    assert adclick("clean", "--config", project).code == 0
    assert adclick("report", "--config", project).code == 0
