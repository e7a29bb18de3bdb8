"""The references in the README files are those of the config and of the gateway's settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adclick.pipeline.config.reference import READMES, with_reference


@pytest.mark.parametrize(("readme", "reference"), READMES.items(), ids=["config", "gateway"])
def test_the_readme_is_up_to_date(readme: Path, reference: Callable[[], str]) -> None:
    text = readme.read_text(encoding="utf-8")
    assert with_reference(text, reference()) == text, "run: .venv/bin/python -m adclick.pipeline.config.reference"


@pytest.mark.parametrize(("reference", "most"), zip(READMES.values(), (40, 30), strict=True), ids=["config", "gateway"])
def test_every_key_says_what_it_means(reference: Callable[[], str], most: int) -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > most
    assert all(line.rstrip("| ").rsplit("|", 1)[1].strip() for line in rows)
