"""CONTRIBUTING.md: what it names is there, and its picture of the house has every room."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PICTURE = TEXT.split("```")[3]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([a-z_]+/[a-z_/0-9.]*)`", TEXT))))
def test_what_is_named_is_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_picture_has_every_room() -> None:
    shown = {line.split()[0].rstrip("/") for line in PICTURE.splitlines() if line.strip()}
    packages = {init.parent for init in ROOT.glob("*/__init__.py")} | {
        init.parent for init in (ROOT / "pipeline").glob("*/__init__.py")
    }
    missing = {package.name for package in packages if package.name not in ("tests", "benchmarks", "adclick")} - shown
    assert not missing
