"""`adclick edge export`, `keys` and `demo`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from adclick.pipeline.cli.app import app
from adclick.pipeline.edge.export import create_key_files, run_export, write_recogniser
from adclick.pipeline.edge.template import template_recogniser
from adclick.schema.errors import ConfigError
from adclick.serving.edge.bundle import read_bundle
from adclick.serving.edge.keys import read_public_key
from adclick.serving.edge.watch import Eye
from tests.serving.edge.pictures import picture


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys, a recogniser, four pictures; the fourth is the first once more."""
    folder = tmp_path_factory.mktemp("project")
    create_key_files(folder)
    write_recogniser(folder / "recogniser", template_recogniser(48), {"known": 0.9})
    for number in range(4):
        picture(number % 3).save(folder / f"{number}.png")
    Image.new("RGB", (8, 8)).save(folder / "blank.png")
    return folder


def export(project: Path, table: str, **options: Any) -> Any:
    (project / "creatives.csv").write_text(table)
    arguments = {"key": project / "private.pem", "output": str(project / "out.bundle"), "created": 1_800_000_000}
    arguments["recogniser"] = str(project / "recogniser")
    return run_export(None, creatives=str(project / "creatives.csv"), **{**arguments, **options})


TABLE = (
    "id,image,name,valid_from,valid_until,forbidden\na,0.png,Ad A,,,\nb,1.png,,2020-01-01,2020-02-01T00:00+01:00,no\n"
).replace(",no", ",false") + "c,2.png,,,,TRUE\n"


def test_a_bundle_holds_what_the_table_says_and_is_the_same_again(project: Path) -> None:
    made = export(project, TABLE)
    first = (project / "out.bundle").read_bytes()
    assert (made.version, made.creatives, made.forbidden, made.alike) == (1_800_000_000, 3, 1, ())
    assert export(project, TABLE).sha256 == made.sha256 and (project / "out.bundle").read_bytes() == first
    assert export(project, TABLE, version=5).sha256 != made.sha256
    bundle = read_bundle(first, [read_public_key(project / "public.pem")])
    rows = bundle.catalogue.creatives
    assert [(row.id, row.name, row.forbidden) for row in rows] == [
        ("a", "Ad A", False),
        ("b", "b", False),
        ("c", "c", True),
    ]
    assert (rows[1].valid_from, rows[1].valid_until) == (1_577_836_800.0, 1_580_511_600.0)
    assert [Eye(bundle).look(picture(seed)).kind for seed in (0, 1, 2, 9)] == [
        "approved",
        "expired",
        "forbidden",
        "unknown",
    ]


def test_a_forbidden_creative_that_may_be_taken_for_a_permitted_one_is_told(project: Path) -> None:
    assert export(project, "id,image,forbidden\na,0.png,\nx,3.png,true\n").alike == (("x", "a"),)


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ("id,picture\na,0.png\n", "columns id, picture"),
        ("id,image\n", "holds no creative"),
        ("id,image\na,0.png\na,1.png\n", "line 3: the id 'a' stands there twice"),
        ("id,image\na,none.png\n", "none.png"),
        ("id,image\na,creatives.csv\n", "line 2"),
        ("id,image\na,blank.png\n", "blank"),
        ("id,image\n,0.png\n", "no id"),
        ("id,image\na\n", "another number of fields"),
        ("id,image,forbidden\na,0.png,maybe\n", "forbidden is 'maybe'"),
        ("id,image,valid_until\na,0.png,soon\n", "valid_until is 'soon'"),
        ("id,image,valid_from,valid_until\na,0.png,2026-02-01,2026-01-01\n", "not after"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_with_its_line(project: Path, table: str, named: str) -> None:
    (project / "out.bundle").unlink(missing_ok=True)
    with pytest.raises(ConfigError, match=re.escape(named)):
        export(project, table)
    assert not (project / "out.bundle").exists()


def test_keys_are_never_overwritten_and_the_private_one_is_private(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["edge", "keys", "--output", str(tmp_path / "keys")]).exit_code == 0
    assert (tmp_path / "keys/private.pem").stat().st_mode & 0o077 == 0
    with pytest.raises(ConfigError, match="File exists"):
        create_key_files(tmp_path / "keys")


def test_the_public_key_signs_nothing_and_no_recogniser_is_told(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no key in PEM"):
        export(project, TABLE, key=project / "public.pem")
    with pytest.raises(ConfigError, match=r"recogniser\.tflite: cannot be read"):
        export(project, TABLE, recogniser=str(tmp_path))


@pytest.mark.end_to_end
def test_the_demonstration_raises_the_alert(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "adclick", "edge", "demo", "--output", str(tmp_path / "demo")]
    done = subprocess.run([*command, "--seconds", "8"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "alert open: unknown picture on demo-screen" in done.stdout and "alert closed" in done.stdout
    log = [json.loads(line) for line in (tmp_path / "demo/log.jsonl").read_text().splitlines()]
    assert [entry["state"] for entry in log if entry["event"] == "alert"] == ["open", "closed"]
